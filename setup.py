"""The folders of the repository as one package; everything else stands in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = {"backlit.export": "export", "backlit.runtime": "runtime", "backlit.models": "models"}

setup(
    package_dir={"backlit": "backlit", **FOLDERS},
    packages=[
        "backlit",
        *FOLDERS,
        *(f"{name}.{inner}" for name, folder in FOLDERS.items() for inner in find_packages(folder)),
    ],
)

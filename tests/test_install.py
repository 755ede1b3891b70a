"""What ``pip install backlit[cpu]`` brings, in a fresh environment: enough to run, and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from backlit.export import export
from backlit.runtime import Session

from backlit import models

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "tests" / "constraints.txt"
LIMIT = 250e6  # bytes
ABSENT = ("torch", "torchvision", "timm", "onnx", "onnx_ir", "onnxscript", "onnxruntime_gpu")


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    # PYTHONPATH would lend the new environment what this one has.
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=cwd, env=own)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """site-packages of an environment with backlit[cpu] and nothing else, not even pip."""
    folder = tmp_path_factory.mktemp("install")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    probe = ["--dry-run", "--no-deps", "--retries", "0", "--timeout", "5", "click"]
    reached = run(*pip, *probe, cwd=folder)
    if reached.returncode:
        pytest.skip(f"pip reaches no index: {reached.stderr.strip().splitlines()[-1:]}")
    source = folder / "source"  # a copy: setuptools builds in place
    for name in ("backlit", "export", "runtime", "models"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    done = run(*pip, "--constraint", CONSTRAINTS, f"{source}[cpu]", cwd=folder)
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "env" / "lib").glob("python*/site-packages")
    return found


def test_neither_torch_nor_onnx(packages: Path) -> None:
    brought = {path.name.split("-")[0].lower() for path in packages.glob("*.dist-info")}
    assert {"backlit", "onnxruntime", "numpy"} <= brought
    assert not brought & set(ABSENT)
    python = packages.parents[2] / "bin" / "python"
    found = run(
        python, "-I", "-c",
        "import importlib.util, sys\n"
        "print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])",
        *ABSENT, "onnxruntime", cwd=packages,
    )  # fmt: skip
    assert (found.stdout, found.stderr) == ("['onnxruntime']\n", "")


def test_saliency_from_a_file_exported_elsewhere(packages: Path, tmp_path: Path) -> None:
    file, image = tmp_path / "tiny.onnx", models.samples() / "07_mug.jpg"
    how = models.PREPROCESSING
    export(models.tiny_convnet(), file, mean=how.mean, std=how.std, range=how.range, verify=False)
    command = packages.parents[2] / "bin" / "backlit"
    done = run(command, "saliency", file, image, "-o", "out", "--no-pictures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["classes"] == [7]
    (wanted,) = Session(file, "cpu").saliency(image)
    (found,) = np.load(tmp_path / said["npy"])
    np.testing.assert_allclose(found, wanted.maps[0], rtol=0, atol=1e-5 * wanted.maps[0].max())

    for extra, words in {
        "export": ("export", "-h"),
        "boxes": ("localize", file, image),
        "boxes ": ("saliency", file, image, "-o", "out"),
        " boxes": ("evaluate", file, tmp_path, "-o", "out"),
    }.items():
        refused = run(command, *words, cwd=tmp_path)
        assert refused.returncode == 1
        assert f"pip install 'backlit[{extra.strip()}]'" in refused.stderr
        assert "Traceback" not in refused.stderr
    python = packages.parents[2] / "bin" / "python"
    code = (
        "from backlit.runtime import Session\n"
        "from backlit.runtime.errors import BacklitError\n"
        f"try: Session({str(file)!r}).localize({str(image)!r})\n"
        "except BacklitError as error: print(error.fix)\n"
    )
    assert "backlit[boxes]" in run(python, "-I", "-c", code, cwd=tmp_path).stdout


def test_under_250_megabytes(packages: Path) -> None:
    sizes: dict[str, int] = {}
    for path in packages.rglob("*"):
        if path.is_file() and not path.is_symlink():
            top = path.relative_to(packages).parts[0]
            sizes[top] = sizes.get(top, 0) + path.stat().st_size
    total = sum(sizes.values())
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:6]
    print(f"backlit[cpu]: {total / 1e6:.0f} MB", *(f"{k} {v / 1e6:.0f}" for k, v in largest))
    assert total < LIMIT

"""What a repository says of itself to people: how to start the server, and how to ask it."""

from __future__ import annotations

from pathlib import Path

from .config import ENGINES, Hosted, profiles

IMAGE = "nvcr.io/nvidia/tritonserver:25.08-py3"
_EXTRAS = {"onnxruntime": "boxes", "tensorrt": "boxes", "python": "cpu,boxes"}


def dockerfile(hosted: Hosted) -> str:
    """Triton's own image with Backlit in it, for the steps in Python."""
    extras = (
        "gpu,boxes" if hosted.backend == "python" and hosted.devices else _EXTRAS[hosted.backend]
    )
    return (
        f"FROM {IMAGE}\n"
        "COPY Dockerfile *.whl /wheels/\n"
        "RUN pip install --no-cache-dir --break-system-packages --find-links /wheels "
        f"'backlit[{extras}]'\n"
    )


def readme(hosted: Hosted) -> str:
    """The repository's README."""
    gpus = "" if hosted.backend == "python" and not hosted.devices else " --gpus all"
    engines = ""
    if hosted.accelerator == "tensorrt" and hosted.backend == "onnxruntime":
        engines = f" -v backlit-engines:{ENGINES}"
    return _text("readme.md").format(
        name=hosted.name,
        map=hosted.map,
        backend=hosted.backend,
        image=IMAGE,
        classes=hosted.classes,
        images=hosted.images,
        plan=_plan(hosted),
        options=f"{gpus}{engines}",
        without=_WITHOUT if hosted.backend == "onnxruntime" and not hosted.devices else "",
    )


def _plan(hosted: Hosted) -> str:
    if hosted.backend != "tensorrt":
        return ""
    shapes = "".join(f" \\\n  --{which}Shapes={text}" for which, text in profiles(hosted).items())
    return _text("engine.md").format(name=hosted.name, shapes=shapes, image=IMAGE)


_WITHOUT = "\nWithout a GPU, leave out `--gpus all`: the maps are then computed on the CPU.\n"


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")

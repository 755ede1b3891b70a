"""Command lines made from the commands' own parameters, with values likely and unlikely."""

from __future__ import annotations

import functools
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
from backlit.export import export
from backlit.runtime.cli import COMMANDS, main
from PIL import Image
from support.small import convnet

from .damage import FLOATS, INTEGERS
from .kind import Kind

_TEXTS = (
    "", " ", "-", "--", "-1", "=1+1", "a,b", ",", "..", "/", "/dev/null", "/dev/full", "/dev/stdin",
    "x" * 300, "x" * 5000, "é\u202e", "a\nb", "\x1b[31m", "\udcff.png", "nan", "inf", "1e999",
    "9" * 400, "0x10", "1_0", "true", "None", "*", "~", "$HOME", "%d", "a=b", "=", "cuda", "cpu",
    "cpu,cpu", "saliency", "file:///etc/passwd", "ftp://x", "http://", "data:,x", "hf:", "timm:",
    "timm:nothing", "torchvision:", "no.such:thing", "F.onnx:x", ":",
)  # fmt: skip
_FILES = ("m.onnx", "b.onnx", "I.png", "labels.txt", "folder", "absent", "empty", "notes.csv")
_SLOW = {"bench": ["--no-peers"], "demo": []}


def make(rng: random.Random, folder: Path) -> list[str]:
    """A folder with a model, a Backlit file and a picture, and arguments for one command."""
    shutil.copytree(_prepared(), folder, dirs_exist_ok=True)
    name = rng.choice([*COMMANDS, *COMMANDS, "", "explode", "--version", "-h", "-q", "-v"])
    parent = click.Context(main, info_name="backlit")
    command = main.get_command(parent, name) if name in COMMANDS else None
    if command is None:
        return [name, *(rng.choice((*_TEXTS, *_FILES)) for _ in range(rng.randrange(3)))]
    arguments: list[str] = []
    for parameter in command.params:
        arguments += _given(rng, parameter)
    if rng.random() < 0.15:
        arguments.insert(rng.randrange(len(arguments) + 1), rng.choice(_TEXTS))
    if rng.random() < 0.05:
        arguments = rng.sample(arguments, len(arguments))
    before = rng.choice(([], [], [], ["-v"], ["-q"], ["-vv"], ["-v", "-q"]))
    return [*before, name, *arguments]


def _given(rng: random.Random, parameter: click.Parameter) -> list[str]:
    if isinstance(parameter, click.Argument):
        if rng.random() < 0.04:
            return []
        many = 1 if parameter.nargs == 1 else rng.choice((1, 1, 2, 3))
        return [_likely(rng, parameter) for _ in range(many)]
    often = 0.95 if parameter.required else 0.12
    if rng.random() > often:
        return []
    name = rng.choice([*parameter.opts, *parameter.secondary_opts])
    times = 1 if rng.random() < 0.9 else 2
    if getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
        return [name] * times
    given: list[str] = []
    for _ in range(times):
        if rng.random() < 0.03:
            given.append(name)  # without a value
        elif rng.random() < 0.2 and name.startswith("--"):
            given.append(f"{name}={_likely(rng, parameter)}")
        else:
            given += [name, _likely(rng, parameter)]
    return given


def _likely(rng: random.Random, parameter: click.Parameter) -> str:
    """Mostly a value of the parameter's kind, at times any text."""
    if rng.random() < 0.12:
        return rng.choice(_TEXTS)
    kind: Any = parameter.type
    if isinstance(kind, click.Choice):
        return str(rng.choice(list(kind.choices)))
    if parameter.name in ("rounds", "steps", "samples"):  # who asks for 2**63 rounds gets them
        return str(rng.choice((-(1 << 63), -1, 0, 1, 2, 3, 1.5)))
    if isinstance(kind, click.types.IntParamType):
        return str(rng.choice((*INTEGERS, 1, 2, 3, 10)))
    if isinstance(kind, click.types.FloatParamType):
        return str(rng.choice((*FLOATS, 0.1, 0.9)))
    if parameter.name in ("out", "report", "sheet"):
        return rng.choice(("out", "out/x", "new.png", "new.html", "made.onnx", *_FILES))
    if parameter.name == "images":
        return rng.choice(("I.png", "I.png", "folder", *_FILES))
    if parameter.name in ("source", "file", "files"):
        return rng.choice(("m.onnx", "b.onnx", "b.onnx", "b.onnx", *_FILES))
    if isinstance(kind, click.Path | click.File):
        return rng.choice(_FILES)
    return rng.choice(("0", "1", "-1", "2", "12", "12x12", "0.5,0.5,0.5", "1", "a", "saliency",
                       "features", "cpu", "cpu.x=1", "NAME=1", *_TEXTS))  # fmt: skip


@functools.cache
def _prepared() -> Path:
    """A folder with what the commands take; it lasts as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="backlit-fuzz-"))
    import onnx

    onnx.save(convnet(), folder / "m.onnx")
    export(convnet(), folder / "b.onnx", labels=list("abcdef"))
    Image.radial_gradient("L").resize((40, 30)).convert("RGB").save(folder / "I.png")
    (folder / "labels.txt").write_text("\n".join("abcdef"))
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    shutil.copy(folder / "I.png", folder / "folder")
    return folder


KIND = Kind("command lines", 2000, make)

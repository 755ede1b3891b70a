"""ONNX Runtime's own CPU provider."""

from __future__ import annotations

import os

from ..cpu import Bindings
from ..interface import read_metadata
from ..provider import File, Provider, Running

# Bytes. On a CPU, images one by one take 2 to 7 % less time than four at once (mobilenet_v2,
# resnet50) and a quarter of the memory; but the weights are read for each (vgg16: 4 % more time).
_LIGHT = 256 << 20


def start(file: File, names: tuple[str, ...]) -> Running:
    """As it is; light networks are given images one by one."""
    opened = file.open(names)
    contract = read_metadata(opened.session, file.path, file.kept)
    alone = _size(file.path) < _LIGHT
    return Running(
        "cpu", contract, Bindings(contract, lambda _: opened.session, alone=alone), opened
    )


def _size(path: str) -> int:
    """Bytes of a file and of the weights beside it."""
    files = (path, f"{path}.data")
    return sum(os.path.getsize(file) for file in files if os.path.exists(file))


PROVIDER = Provider(
    name="cpu",
    full="CPUExecutionProvider",
    brings="'backlit[cpu]'",
    start=start,
    # A pattern is one more block of all the memory that a run takes, from the second run on: twice
    # the memory, for no measurable time.
    memory_pattern=False,
)

"""The table of execution providers. A new one is a module beside this one and a row here."""

from __future__ import annotations

from ..provider import Provider
from . import cpu, cuda, openvino, tensorrt

PROVIDERS: dict[str, Provider] = {
    row.name: row for row in (cuda.PROVIDER, tensorrt.PROVIDER, openvino.PROVIDER, cpu.PROVIDER)
}
"""Every provider by its short name, in the order in which they are tried.

TensorRT builds an engine for minutes before its first result, so it is taken before CUDA only where
it is named.
"""

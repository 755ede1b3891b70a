"""The table of execution providers. A new one is a module beside this one and a row here."""

from __future__ import annotations

from ..provider import Provider
from . import coreml, cpu, cuda, directml, migraphx, openvino, qnn, tensorrt, tensorrt_rtx, webgpu

PROVIDERS: dict[str, Provider] = {
    row.name: row
    for row in (
        cuda.PROVIDER,
        tensorrt.PROVIDER,
        cpu.PROVIDER,
        openvino.PROVIDER,
        webgpu.PROVIDER,
        tensorrt_rtx.PROVIDER,
        coreml.PROVIDER,
        directml.PROVIDER,
        migraphx.PROVIDER,
        qnn.PROVIDER,
    )
}
"""Every provider by its short name, in the order in which they are tried.

TensorRT builds an engine for minutes before its first result, so it is taken before CUDA only where
it is named. Those that compile for each shape, that are plugins or that nobody has tested are taken
only where they are named: what is installed beside ONNX Runtime changes nobody's numbers.
"""

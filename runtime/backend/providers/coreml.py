"""Core ML: Apple's processors, in ONNX Runtime for macOS."""

from __future__ import annotations

from collections.abc import Mapping

from ..host import start_compiled
from ..provider import SWITCH, Provider, Values

# coreml_provider_factory.h of ONNX Runtime 1.31.
VALUES: dict[str, Values] = {
    "AllowLowPrecisionAccumulationOnGPU": SWITCH,
    "EnableOnSubgraphs": SWITCH,
    "MLComputeUnits": ("ALL", "CPUOnly", "CPUAndGPU", "CPUAndNeuralEngine"),
    "ModelCacheDirectory": str,
    "ModelFormat": ("MLProgram", "NeuralNetwork"),
    "ProfileComputePlan": SWITCH,
    "RequireStaticInputShapes": SWITCH,
    "SpecializationStrategy": ("Default", "FastPrediction"),
}


def settings(own: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """As an ML program: the older format knows few operators, and computes in half precision."""
    return {"ModelFormat": "MLProgram", **own}


PROVIDER = Provider(
    name="coreml",
    full="CoreMLExecutionProvider",
    brings="'backlit[cpu]'",
    note="on macOS",
    named=True,
    untested=True,
    start=start_compiled,
    values=VALUES,
    settings=settings,
    leaves_nodes=True,
    runs=1,
)

"""DirectML: any GPU under Windows, in the builds onnxruntime-directml and onnxruntime-windowsml."""

from __future__ import annotations

from ..host import start
from ..provider import Provider

PROVIDER = Provider(
    name="directml",
    full="DmlExecutionProvider",
    brings="onnxruntime-windowsml",
    note="on Windows; onnxruntime-directml on Windows 10",
    named=True,
    untested=True,
    start=start,
    values={
        "device_id": int,
        "disable_metacommands": ("true", "false"),
        "enable_graph_capture": ("true", "false"),
        "performance_preference": ("default", "high_performance", "minimum_power"),
        "device_filter": ("gpu", "npu", "any"),
    },
    leaves_nodes=True,
    # DirectML has no use for it, and refuses a session with it (its documentation).
    memory_pattern=False,
    runs=1,
)

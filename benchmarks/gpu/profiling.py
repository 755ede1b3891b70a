"""Where the time goes in a Backlit file on a GPU: by operator, by node, by CUDA kernel.

In the process of a contender (worker.py).
"""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.worker import WARM_UP, Case, Job, bound, opener


def operators(job: Job, case: Case, prefix: str, runs: int) -> dict[str, Any]:
    """Seconds per run by ONNX Runtime's profiler: of Backlit's file or its forward part.

    Its CUDA provider is built without CUPTI, so these are times of launching kernels, unless
    CUDA_LAUNCH_BLOCKING=1 makes every launch wait for its kernel: set it for the process.

    Args:
        job: of kind ``backlit`` or ``forward``.
        case: what is run, on the device.
        prefix: path of the trace, which is deleted.
        runs: that count.
    """
    images, index = case.inputs()
    feed = {"image": images, "class_index": index}
    if job.kind == "forward":
        del feed["class_index"]
    file = Path(case.folder, f"{job.precision}.{job.kind}.onnx")
    run, session, *_ = bound(job, file, feed, prefix)
    for _ in range(WARM_UP + runs):
        run()
    trace = Path(session.end_profiling())
    events = json.loads(trace.read_text(encoding="utf-8"))
    trace.unlink()
    return summed(events, runs)


def kernels(job: Job, case: Case, runs: int) -> dict[str, Any]:
    """Seconds per run of each CUDA kernel, as torch's profiler (CUPTI) sees this process."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if not torch.cuda.is_available():
        raise RuntimeError("torch has no CUDA here, so no CUPTI")
    torch.zeros(1, device="cuda")
    run = opener(job.kind)(job, case, "device")
    for _ in range(WARM_UP):
        run()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(runs):
            run()
    found = [
        [event.key[:120], event.count / runs, event.device_time_total / 1e6 / runs]
        for event in seen.key_averages()
    ]
    return {"kernels": sorted(found, key=lambda row: -row[2])[:25]}


def summed(events: list[dict[str, Any]], runs: int) -> dict[str, Any]:
    """The last runs of a profile of ONNX Runtime, as seconds per run.

    Returns:
        ``operators``: [operator, provider, nodes, seconds]; ``nodes``: [node, operator, seconds] of
        the slowest; ``seconds``: of all nodes together.
    """
    times: dict[tuple[str, str, str], list[float]] = collections.defaultdict(list)
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            args = event["args"]
            node = name.removesuffix("_kernel_time")
            times[node, args["op_name"], args.get("provider", "")].append(event["dur"] / 1e6)
    nodes = {key: sum(values[-runs:]) / runs for key, values in times.items()}
    operators: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for (_, operator, provider), seconds in nodes.items():
        operators[operator, provider].append(seconds)
    slowest = sorted(nodes.items(), key=lambda item: -item[1])
    return {
        "operators": sorted(
            ([*key, len(each), sum(each)] for key, each in operators.items()), key=lambda r: -r[3]
        ),
        "nodes": [[node, operator, seconds] for (node, operator, _), seconds in slowest[:15]],
        "seconds": sum(nodes.values()),
    }  # fmt: skip

"""Half precision against float32 on all labelled images: ``make precision``.

Names of models as arguments: those alone.

Cosines of the gradient of the best class: with every tensor rounded and sums in float32, as on a
GPU, and as ONNX Runtime's CPU provider runs the file (it rounds between some nodes only). Last,
what it would be with the whole forward pass in float16, and the backward pass in float32.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
from backlit.export import export
from backlit.export.precision.lower import PLAIN
from backlit.export.precision.scaling import named, upstream
from backlit.export.precision.types import infer_types, is_float, retype
from onnx_ir.passes import common as passes
from support.real import NAMES, SHARED, entry, options

from benchmarks.precision.cases import compare, dev_images


def forward_in_half(single: Path, path: Path) -> None:
    """Write a float32 file again with its forward pass, prologue apart, in float16."""
    model = ir.load(single)
    infer_types(model)
    nodes = [n for n in upstream(named(model.graph, "scores")) if is_float(n.outputs[0])]
    half = {n for n in nodes if n.op_type in PLAIN and not (n.name or "").startswith("prologue")}
    retype(model.graph, half, ir.DataType.FLOAT16)
    passes.RemoveUnusedNodesPass()(model)
    ir.save(model, path)


def main() -> None:
    """Print a line per model and way of running."""
    shared = SHARED / "data"
    images = dev_images(shared)
    print(f"{len(images)} images; cosine with float32's gradient; largest difference of a score")
    print(f"{'model':27} {'precision':9} {'run':8} smallest  median    scores   broken")
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or NAMES:
            model, files = entry(shared, name), dict[str | None, Path]()
            for precision in (None, "fp16", "bf16"):
                files[precision] = Path(folder) / f"{name}.{precision}.onnx"
                export(
                    shared / model["file"], files[precision], maps="gradient",
                    precision=precision, verify=False, **options(model),
                )  # fmt: skip
            files["forward"] = Path(folder) / f"{name}.forward.onnx"
            forward_in_half(files[None], files["forward"])
            ways = (("fp16", False), ("fp16", True), ("bf16", False), ("forward", False))
            for precision, kernels in ways:
                found = compare(shared, files[None], files[precision], images, kernels)
                print(
                    f"{name:27} {precision:9} {'ORT CPU' if kernels else 'rounded':8} "
                    f"{np.nanmin(found.cosines):.6f}  {np.nanmedian(found.cosines):.6f}  "
                    f"{found.scores:.1e}  {found.broken}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

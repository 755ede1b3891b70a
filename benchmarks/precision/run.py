"""Half precision against float32 on all labelled images: ``make precision``.

    python -m benchmarks.precision.run [MODEL...] [--every N] [--precision P...]

Gradients of the best class: cosines, rank correlation of the maps, boxes that stay the same (IoU of
0.9 or more), largest difference of a score. With every tensor rounded and sums in float32, as on a
GPU; with --kernels also as ONNX Runtime's CPU provider runs the file (it rounds between some nodes
only).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from backlit.export import export
from support.real import NAMES, SHARED, entry, options

from benchmarks.precision.cases import compare, dev_images


def main() -> None:
    """Print a line per model and way of running."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=NAMES)
    parser.add_argument("--every", type=int, default=1, help="take every Nth image")
    parser.add_argument("--precision", nargs="+", default=["fp16", "mixed", "bf16"])
    parser.add_argument("--kernels", action="store_true")
    given = parser.parse_args()
    shared = SHARED / "data"
    images = dev_images(shared)[:: given.every]
    print(f"{len(images)} images")
    print(
        f"{'model':27} {'file':6} {'run':8} cosine: least, median  ranks    boxes   scores   broken"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            model, files = entry(shared, name), dict[str | None, Path]()
            for precision in (None, *given.precision):
                files[precision] = Path(folder) / f"{name}.{precision}.onnx"
                export(
                    shared / model["file"], files[precision], maps="gradient",
                    precision=precision, verify=False, **options(model),
                )  # fmt: skip
            ways = [
                (p, k)
                for p in given.precision
                for k in ((False, True) if given.kernels else (False,))
                if not (k and p == "bf16")
            ]
            for precision, kernels in ways:
                found = compare(shared, files[None], files[precision], images, kernels)
                print(
                    f"{name:27} {precision:6} {'ORT CPU' if kernels else 'rounded':8} "
                    f"{np.nanmin(found.cosines):13.6f} {np.nanmedian(found.cosines):.6f}  "
                    f"{np.median(found.ranks):.4f}  {100 * found.boxes:5.1f}%  "
                    f"{found.scores:.1e}  {found.broken}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

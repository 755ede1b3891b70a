"""What TensorRT and the CUDA provider say of architectures as published: ``make gpu-check``.

    python -m benchmarks.gpu.check [--only PATTERN]

The long form of tests/test_gpu_placement.py, at 224 pixels and 1000 classes, with seeded random
weights: every file as it is exported by default, and in half precision with the unreduced gradient.
No GPU is needed. A line of JSON per file; exit status 1 if one is not taken whole.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from backlit.export import export
from backlit.export.check.check import check_tensorrt
from support import fakecuda, zoo

TORCHVISION = (
    "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small",
    "regnet_y_400mf", "efficientnet_b0", "googlenet", "densenet121", "resnet18", "resnet50",
    "efficientnet_v2_s", "inception_v3", "convnext_tiny", "swin_t", "swin_v2_t", "maxvit_t",
    "alexnet", "vit_b_16", "vgg11", "vgg16",
)  # fmt: skip
TIMM = ("vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224", "edgenext_xx_small")
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "gradient, fp16": {"maps": "gradient", "precision": "fp16"},
}
SIZES = {"inception_v3": 299}


def judge(model: Any, size: int, options: dict[str, Any], libraries: Path | None) -> dict[str, Any]:
    """What is said of one file; without the stand-in, nothing of CUDA."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        report = export(model, file, size=size, verify=False, **options)
        started = time.perf_counter()
        built = check_tensorrt(file, parser=True, build=True)
        said: dict[str, Any] = {
            "nodes": report.nodes,
            "engines": built.engines,
            "engine_mb": round((built.engine_bytes or 0) / 1e6, 1),
            "refused": [str(node) for node in built.refused],
            "error": built.error,
            "seconds": round(time.perf_counter() - started, 1),
            "whole": built.taken and built.engines == 1,
        }
        if libraries is not None:
            done = fakecuda.run(libraries, ["-m", "backlit.runtime", "check", file, "--cuda"])
            if not done.stdout:
                raise RuntimeError(done.stderr)
            cuda = json.loads(done.stdout)["cuda"]
            kinds = [node["operator"] for node in cuda["shapes"]]
            said["cuda"] = cuda["placed"] | {"graph": cuda["graph"]}
            said["elsewhere"] = [node["operator"] for node in cuda["elsewhere"]]
            said["shapes"] = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
            said["whole"] = said["whole"] and cuda["whole"]
        return said


def main() -> int:
    """Judge the models of that name; returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="*")
    only = parser.parse_args().only
    whole = True
    with tempfile.TemporaryDirectory() as folder:
        reason = fakecuda.missing()
        libraries = None if reason else fakecuda.build(Path(folder))
        if reason:
            print(f"nothing of the CUDA provider: {reason}", file=sys.stderr)
        for name in fnmatch.filter((*TORCHVISION, *TIMM), only):
            size = SIZES.get(name, 224)
            if name in TIMM:
                model, size = zoo.timm_classifier(name)
            else:
                model = zoo.classifier(name, size=size)
            for variant, options in VARIANTS.items():
                said = judge(model, size, options, libraries)
                print(json.dumps({"model": name, "variant": variant, **said}), flush=True)
                whole = whole and said["whole"]
            del model
            gc.collect()
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())

"""Export transformers' image classifiers, small and with random weights, in both ways, and judge.

    python -m benchmarks.huggingface [--only PATTERN] [--again]

Each is exported as an nn.Module and, saved in a folder, as hf:FOLDER, both verified. Needs
transformers, safetensors and huggingface_hub, which Backlit does not install, and no network. A
table of all comes on stdout; each result is a line of out/huggingface.jsonl as soon as it is there,
and what is there is not tried again.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib.metadata
import io
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from benchmarks import ROOT

RESULTS = ROOT / "out" / "huggingface.jsonl"
VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "image_size": 64, "patch_size": 16,
}  # fmt: skip
SWIN = {
    "image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4],
    "window_size": 4, "hidden_size": 32,
}  # fmt: skip
STAGES = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}
MOBILEVIT = {
    "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32], "image_size": 64,
    "num_attention_heads": 2,
}  # fmt: skip
VISION = {"vision_config": VIT, "projection_dim": 16}
PERCEIVER = {
    "num_latents": 8, "d_latents": 32, "d_model": 64, "num_blocks": 1,
    "num_self_attends_per_block": 1, "num_self_attention_heads": 2, "num_cross_attention_heads": 1,
    "image_size": 32,
}  # fmt: skip

# A classifier's class and its configuration; size of its images, where that does not say it.
MODELS: dict[str, dict[str, Any]] = {
    "BeitForImageClassification": VIT,
    "BitForImageClassification": {
        **STAGES, "hidden_sizes": [16, 32, 64, 128], "embedding_size": 16, "num_groups": 4,
    },
    "CLIPForImageClassification": VISION,
    "ConvNextForImageClassification": STAGES,
    "ConvNextV2ForImageClassification": STAGES,
    "CvtForImageClassification": {"embed_dim": [16, 32, 32], "num_heads": [1, 2, 2],
                                  "depth": [1, 2, 3]},
    "Data2VecVisionForImageClassification": VIT,
    "DeiTForImageClassification": VIT,
    "DeiTForImageClassificationWithTeacher": VIT,
    "DinatForImageClassification": {},
    "Dinov2ForImageClassification": VIT,
    "Dinov2WithRegistersForImageClassification": VIT,
    "DonutSwinForImageClassification": SWIN,
    "EfficientNetForImageClassification": {
        "image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320,
    },
    "FocalNetForImageClassification": {
        "image_size": 64, "embed_dim": 16, "hidden_sizes": [16, 32], "depths": [1, 1],
        "focal_levels": [2, 2], "focal_windows": [3, 3],
    },
    "HGNetV2ForImageClassification": {},
    "HieraForImageClassification": {
        "image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 4, 8],
    },
    "IJepaForImageClassification": VIT,
    "ImageGPTForImageClassification": {"n_embd": 32, "n_layer": 1, "n_head": 2},
    "LevitForImageClassification": {
        "image_size": 64, "hidden_sizes": [16, 32, 48], "num_attention_heads": [1, 2, 3],
        "depths": [1, 1, 1], "key_dim": [8, 8, 8],
    },
    "LevitForImageClassificationWithTeacher": {
        "image_size": 64, "hidden_sizes": [16, 32, 48], "num_attention_heads": [1, 2, 3],
        "depths": [1, 1, 1], "key_dim": [8, 8, 8],
    },
    "MetaClip2ForImageClassification": VISION,
    "MobileNetV1ForImageClassification": {"image_size": 64, "depth_multiplier": 0.25},
    "MobileNetV2ForImageClassification": {"image_size": 64, "depth_multiplier": 0.35},
    "MobileViTForImageClassification": MOBILEVIT,
    "MobileViTV2ForImageClassification": {"image_size": 64, "width_multiplier": 0.5},
    "PerceiverForImageClassificationLearned": PERCEIVER,
    "PerceiverForImageClassificationFourier": PERCEIVER,
    "PerceiverForImageClassificationConvProcessing": PERCEIVER,
    "PoolFormerForImageClassification": STAGES,
    "PPLCNetForImageClassification": {"scale": 0.25},
    "PvtForImageClassification": {
        "image_size": 64, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 4],
    },
    "PvtV2ForImageClassification": {
        "image_size": 64, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 4],
    },
    "RegNetForImageClassification": {
        **STAGES, "hidden_sizes": [16, 32, 48, 64], "embedding_size": 16, "groups_width": 8,
    },
    "ResNetForImageClassification": {**STAGES, "embedding_size": 16},
    "SegformerForImageClassification": {
        "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 4],
    },
    "SiglipForImageClassification": {"vision_config": VIT},
    "Siglip2ForImageClassification": {"vision_config": {**VIT, "num_patches": 16}},
    "SwiftFormerForImageClassification": {
        "image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [16, 24, 32, 48],
    },
    "SwinForImageClassification": SWIN,
    "Swinv2ForImageClassification": SWIN,
    "TextNetForImageClassification": {},
    "TimmWrapperForImageClassification": {"architecture": "resnet18"},
    "ViTForImageClassification": VIT,
    "ViTMSNForImageClassification": VIT,
}  # fmt: skip


def made(name: str) -> Any:
    """A classifier with random weights, ten classes that have names."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind = getattr(transformers, name)
    labels = {i: f"kind {i}" for i in range(10)}
    config = kind.config_class(
        **MODELS[name], id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    model = kind(config)
    for parameter in model.parameters():  # at 0.02 nothing is left after many convolutions
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=(parameter.numel() / len(parameter)) ** -0.5)
    if any(isinstance(part, torch.nn.BatchNorm2d) for part in model.modules()):
        side = getattr(config, "image_size", 64)
        with torch.no_grad():  # statistics as if trained
            for _ in range(30):
                model(torch.rand(4, 3, *([side, side] if isinstance(side, int) else side)))
    return model.eval()


def judge(source: Any, size: int | None) -> dict[str, Any]:
    """Export a source, verified, and say what came out."""
    from backlit.export import export

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            report = export(source, Path(folder) / "model.onnx", size=size)
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            said = " ".join(lines[: 2 if len(lines) < 4 else 5])[:500]
            return {"ok": False, "reason": f"{type(error).__name__}: {said}"}
        found = report.contract.verification
        return {
            "ok": True, "reference": found.reference if found else None,
            "error": found.relative_l2 if found else None, "exact": found.exact if found else None,
            "labels": report.contract.labels is not None,
        }  # fmt: skip


def save(model: Any, folder: Path) -> None:
    """Write a classifier as ``save_pretrained`` does, with its image processor's configuration."""
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(folder)
    processor = {
        "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 3,
        "rescale_factor": 1 / 255, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
        "size": _size(model) or 64, "image_processor_type": "ViTImageProcessor",
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")


def _size(model: Any) -> Any:
    return getattr(model.config, "image_size", None)


def both(name: str) -> dict[str, Any]:
    """A classifier as a module and as hf:FOLDER."""
    try:
        model = made(name)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        reason = f"transformers does not make it: {type(error).__name__}: {lines[0][:200]}"
        failed = {"ok": False, "reason": reason}
        return {"model": name, "module": failed, "hf": failed}
    size = 64 if _size(model) is None and "vision_config" not in MODELS[name] else None
    module = judge(model, size)
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder))
        return {"model": name, "module": module, "hf": judge(f"hf:{folder}", None)}


def cell(found: dict[str, Any]) -> str:
    """``yes, 2e-7`` or ``no``."""
    return f"yes, {found['exact'] or found['error']:.0e}" if found["ok"] else "no"


def newest(file: Path, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The last line of JSON for each value of these keys, in the order of their first."""
    if not file.is_file():
        return []
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return list({tuple(line[name] for name in names): line for line in lines}.values())


def results() -> list[dict[str, Any]]:
    """The newest result of each classifier, in the order of MODELS."""
    found = {line["model"]: line for line in newest(RESULTS, ("model",))}
    return [found[name] for name in MODELS if name in found]


def table(results: list[dict[str, Any]]) -> str:
    rows = ["| model | module | hf:FOLDER | reason |", "|---|---|---|---|"]
    for found in results:
        reasons = {found[way].get("reason", "") for way in ("module", "hf")} - {""}
        said = " / ".join(sorted(reasons)).replace("|", "\\|")
        ways = f"{cell(found['module'])} | {cell(found['hf'])}"
        rows.append(f"| {found['model']} | {ways} | {said} |")
    counts = (sum(found[way]["ok"] for found in results) for way in ("module", "hf"))
    return "\n".join([*rows, f"| of {len(results)} | {next(counts)} | {next(counts)} | |"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="PATTERN", default="*", help="classes, as for fnmatch")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    options = parser.parse_args()
    from support import zoo

    with contextlib.suppress(ImportError):
        zoo.torchvision()  # transformers' image processors import it
    version = importlib.metadata.version("transformers")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    done = set() if options.again else {found["model"] for found in results()}
    for name in fnmatch.filter(MODELS, options.only):
        if name in done:
            continue
        found = both(name) | {"version": version}
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        print(table([found]).splitlines()[2], file=sys.stderr, flush=True)
    print(table(results()))
    return 0 if all(found[way]["ok"] for found in results() for way in ("module", "hf")) else 1


if __name__ == "__main__":
    sys.exit(main())

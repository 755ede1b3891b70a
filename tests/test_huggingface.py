"""hf:NAME_OR_FOLDER with a stand-in for transformers, and what image processors say."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from backlit.export import export
from backlit.export.sources.load import load
from backlit.export.sources.processors import of_config, preprocessing
from backlit.runtime.errors import BacklitWarning, ModelError, OptionError

CONFIG = {"image_size": 16, "id2label": {"0": "cat", "1": "dog", "2": "owl"}}
PROCESSOR = {
    "size": {"height": 20, "width": 20}, "do_center_crop": True, "crop_size": 16, "resample": 3,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "rescale_factor": 1 / 255,
}  # fmt: skip


class Classifier(torch.nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = config
        self.conv = torch.nn.Conv2d(3, 3, 3)

    def forward(self, pixel_values: torch.Tensor, labels: Any = None) -> Any:
        return {"logits": torch.tanh(self.conv(pixel_values)).mean((2, 3))}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved classifier, and transformers as far as a folder needs it."""

    def config_of(name: str, **options: Any) -> Any:
        path = Path(name) / "config.json"
        if not path.is_file():
            raise OSError(f"{name} is not a local folder\nand a long explanation")
        return types.SimpleNamespace(**json.loads(path.read_text()))

    def model_of(name: str, config: Any, **options: Any) -> Any:
        missing = ["conv.weight"] if hasattr(config, "headless") else []
        return Classifier(config), {"missing_keys": missing}

    builder = types.SimpleNamespace(from_pretrained=model_of, from_config=Classifier)
    fake = types.SimpleNamespace(
        AutoConfig=types.SimpleNamespace(from_pretrained=config_of),
        AutoModelForImageClassification=builder,
    )
    monkeypatch.setitem(sys.modules, "transformers", fake)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return tmp_path


def test_a_folder_says_its_preprocessing_and_labels(folder: Path, tmp_path: Path) -> None:
    contract = export(f"hf:{folder}", tmp_path / "m.onnx").contract
    assert (contract.image.height, contract.image.width) == (16, 16)
    assert (contract.image.crop_fraction, contract.image.interpolation) == (0.8, "bicubic")
    assert contract.normalisation.mean == (0.5, 0.4, 0.3)
    assert contract.labels == ("cat", "dog", "owl")
    assert contract.verification is not None
    assert contract.verification.reference == "torch.autograd"


def test_weights_that_a_checkpoint_lacks_are_said_to_be_random(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "headless": True}))
    with pytest.warns(BacklitWarning, match="1 tensors of hf:.* are random: conv.weight"):
        load(f"hf:{folder}")
    load(f"hf:{folder}", "random")


def test_what_cannot_be_loaded_is_one_line(folder: Path) -> None:
    for name in ("somebody/absent", str(folder / "absent")):
        with pytest.raises(ModelError) as caught:
            load(f"hf:{name}")
        assert caught.value.problem.endswith("is not a local folder")
    with pytest.raises(OptionError, match="names no model"):
        load("hf:")


def test_a_module_of_transformers_says_size_and_labels() -> None:
    config = types.SimpleNamespace(image_size=16, id2label={0: "LABEL_0", 1: "LABEL_1"})
    says = load(Classifier(config)).says
    assert (says.size, says.labels, says.mean) == ((16, 16), None, None)
    inside = types.SimpleNamespace(vision_config=types.SimpleNamespace(image_size=[8, 12]))
    assert of_config(inside).size == (8, 12)


# A processor's configuration, then size, crop, mean, std and range of the input.
HALF = {"image_mean": [0.5], "image_std": [0.5]}
SAID: dict[str, tuple[dict[str, Any], Any]] = {
    "stretched": ({"size": {"height": 8, "width": 6}, **HALF}, ((8, 6), None, 0.5, 0.5, "0-1")),
    "a number": ({"size": 8, **HALF}, ((8, 8), None, 0.5, 0.5, "0-1")),
    "cropped": ({"size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8},
                 "do_center_crop": True, **HALF}, ((8, 8), 0.8, 0.5, 0.5, "0-1")),
    "ConvNeXt": ({"size": {"shortest_edge": 224}, "image_processor_type": "ConvNextImageProcessor",
                  **HALF}, ((224, 224), 0.875, 0.5, 0.5, "0-1")),
    "ConvNeXt, large": ({"size": {"shortest_edge": 384}, "crop_pct": 0.875, **HALF},
                        ((384, 384), 1.0, 0.5, 0.5, "0-1")),
    "not normalised": ({"size": 8, "do_normalize": False}, ((8, 8), None, 0.0, 1.0, "0-1")),
    "not rescaled": ({"size": 8, "do_rescale": False, "image_mean": [100.0], "image_std": [50.0]},
                     ((8, 8), None, 100.0, 50.0, "0-255")),
    "into -1..1": ({"size": 8, "rescale_factor": 2 / 255, "rescale_offset": True,
                    "do_normalize": False}, ((8, 8), None, 0.5, 0.5, "0-1")),
    "no size": ({"do_resize": False, **HALF}, ((16, 16), None, 0.5, 0.5, "0-1")),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_an_image_processors_numbers(name: str) -> None:
    given, expected = SAID[name]
    says = preprocessing(given, types.SimpleNamespace(image_size=16))
    assert says.mean is not None
    assert says.std is not None
    found = (says.size, says.crop_fraction, says.mean[0], says.std[0], says.range)
    assert found == expected


def test_channels_in_another_order_and_timms_own() -> None:
    config = types.SimpleNamespace(image_size=16)
    assert preprocessing({"size": 8, "do_flip_channel_order": True}, config).bgr
    timm = {"input_size": [3, 32, 32], "mean": [0.5], "std": [0.2], "crop_pct": 0.9,
            "interpolation": "bicubic"}  # fmt: skip
    says = preprocessing(None, types.SimpleNamespace(pretrained_cfg=timm))
    assert (says.size, says.mean, says.crop_fraction) == ((32, 32), (0.5,), 0.9)
    assert says.interpolation == "bicubic"


@pytest.mark.parametrize("answer", ["none", "refused", "found"])
def test_the_hub_is_asked_once_before_anything_is_loaded(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading would try again and again; where nobody answers it finds what is here already."""
    loaded: list[dict[str, Any]] = []

    def model_info(name: str, timeout: float) -> None:
        assert (name, timeout > 0) == ("some/name", True)
        if answer != "found":
            error = ConnectionError("no route to host")
            error.response = object() if answer == "refused" else None  # type: ignore[attr-defined]
            raise error

    def config_of(name: str, **options: Any) -> Any:
        loaded.append(options)
        raise OSError("not in the cache")

    hub = types.SimpleNamespace(model_info=model_info)
    fake = types.SimpleNamespace(
        AutoConfig=types.SimpleNamespace(from_pretrained=config_of),
        AutoModelForImageClassification=None,
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    with pytest.raises(ModelError, match="not in the cache") as caught:
        load("hf:some/name")
    assert "network" in caught.value.fix
    assert loaded == [{"local_files_only": True} if answer == "none" else {}]

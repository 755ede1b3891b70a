"""The map that boxes start from: ``gains`` where they lie together, else ``features``."""

import numpy as np
import pytest
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime.backend.outputs import Outputs
from backlit.runtime.boxes.recipes import RECIPES, fitted
from backlit.runtime.errors import OptionError
from backlit.runtime.maps.enlarged import enlarged
from backlit.runtime.maps.kinds import file_outputs
from backlit.runtime.maps.object import ObjectMap, scattered
from torch import nn


def blob(side: int, place: slice, level: float = 0.0) -> np.ndarray:
    values = np.full((side, side), level, np.float32)
    values[place, place] = 1
    return values


WIDE = blob(8, slice(1, 6))  # twice as large as the object, as features of a small network are
TOGETHER = blob(16, slice(4, 9), 0.02)
ALL_OVER = np.random.default_rng(0).uniform(0, 1, (16, 16)).astype(np.float32)


def outputs(**maps: np.ndarray) -> Outputs:
    one = np.zeros((1, 1), np.int64)
    return Outputs(one.astype(np.float32), one, one.astype(np.float32), maps)


def test_what_lies_outside_of_the_foreground_is_scattered() -> None:
    ground = enlarged(WIDE, 16, 16)
    assert scattered(ground, TOGETHER) < 0.01
    assert scattered(ground, ALL_OVER) > 0.3
    assert scattered(ground, blob(16, slice(12, 16))) > 0.95
    assert scattered(ground, np.zeros((16, 16), np.float32)) == 1


def test_each_image_and_class_has_the_map_that_can_be_trusted() -> None:
    features = np.stack([WIDE, WIDE])[None]
    found = ObjectMap().of_run(
        None, outputs(features=features, gains=np.stack([TOGETHER, ALL_OVER])[None]), features
    )  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[0, 0], TOGETHER)
    np.testing.assert_array_equal(found[0, 1], enlarged(WIDE, 16, 16))


def test_a_file_without_gains_gives_features() -> None:
    features = WIDE[None, None]
    found = ObjectMap().of_run(None, outputs(features=features), features)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, features)
    assert ObjectMap().made_of(["saliency", "features"]) == ("features",)
    with pytest.raises(OptionError, match="features"):
        ObjectMap().made_of(["saliency", "gains"])


def test_the_default_recipe_runs_what_it_needs_and_no_more(tmp_path) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    )  # fmt: skip
    export(net.eval(), tmp_path / "m.onnx", size=32, verify=False)
    whole = Session(tmp_path / "m.onnx")
    needed = file_outputs(fitted("default", whole.contract).map, whole.contract)
    assert tuple(needed) == ("features", "gains")
    lean = Session(tmp_path / "m.onnx", maps=needed)
    picture = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    (found,) = lean.localize(picture, [0])
    assert (found.map, found.recipe) == (RECIPES["default"].map, "default") == ("object", "default")
    np.testing.assert_array_equal(found.maps, whole.localize(picture, [0])[0].maps)

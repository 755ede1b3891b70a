"""The table of kinds of maps: a new kind is one file and one row, as docs/adding-a-map.md says."""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime.boxes.recipes import RECIPES
from backlit.runtime.cli import map_options
from backlit.runtime.drawing.colormaps import NAMES
from backlit.runtime.errors import OptionError
from backlit.runtime.maps.kind import ManyRuns, OneRun, option
from backlit.runtime.maps.kinds import KINDS, file_outputs, get_kind
from backlit.runtime.maps.smoothgrad import SmoothGrad
from PIL import Image
from support.linear_file import write_linear_file

PAGE = (Path(__file__).parents[1] / "docs" / "adding-a-map.md").read_text(encoding="utf-8")
SIDE = 24

# What the page's row does, and then the command line.
PROGRAM = """
import importlib.util, sys
from backlit.runtime.maps.kinds import KINDS
name = "backlit.runtime.maps.sharpened"
spec = importlib.util.spec_from_file_location(name, sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
KINDS["sharpened"] = module.Sharpened
from backlit.runtime.cli import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A file, a photo, and the page's file."""
    folder = tmp_path_factory.mktemp("maps")
    weight = np.random.default_rng(3).standard_normal((3, 3, SIDE, SIDE), np.float32)
    weight[:, :, 8:16, 8:16] *= 20
    options = {"height": SIDE, "width": SIDE, "classes": 3, "weight": weight}
    write_linear_file(folder / "m.onnx", output="gradient", **options)
    write_linear_file(folder / "plain.onnx", **options)
    pixels = np.random.default_rng(4).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    (code,) = re.findall(r"```python\n(\"\"\"Saliency raised.*?)```", PAGE, re.DOTALL)
    (folder / "sharpened.py").write_text(code, encoding="utf-8")
    return folder


@pytest.fixture
def sharpened(work, monkeypatch):
    """The page's class, with its row in the table."""
    name = "backlit.runtime.maps.sharpened"
    spec = importlib.util.spec_from_file_location(name, work / "sharpened.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(KINDS, "sharpened", module.Sharpened)
    return module.Sharpened


def command(work, *args):
    words = [sys.executable, "-c", PROGRAM, work / "sharpened.py", *args]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True)


def titles(path):
    root = ElementTree.parse(path).getroot()
    return [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")][:-1]


# The page's kind


def test_a_new_kind_in_python(work, sharpened):
    session = Session(work / "m.onnx", ["cpu"])
    image = work / "photo.png"
    (plain,) = session.saliency(image, top=2)
    (found,) = session.saliency(image, top=2, map="sharpened")
    scaled = plain.maps / plain.maps.max((1, 2), keepdims=True)
    np.testing.assert_allclose(found.maps, scaled**2, rtol=1e-6)
    assert found.map == "sharpened"
    (found,) = session.saliency(image, top=2, map=sharpened(exponent=3))
    np.testing.assert_allclose(found.maps, scaled**3, rtol=1e-6)
    with pytest.raises(OptionError, match=r"exponent=0.5 is out of range(.|\n)*give 1 or more"):
        sharpened(exponent=0.5)
    with pytest.raises(OptionError, match=r"no map 'sharpend'(.|\n)*gradxinput, sharpened"):
        session.saliency(image, map="sharpend")


def test_a_new_kind_on_the_command_line(work, tmp_path):
    args = (work / "m.onnx", work / "photo.png", "--top", 2, "-o", tmp_path)
    done = command(work, "saliency", *args, "--map", "sharpened", "--exponent", 3,
                   "--panels", "image,map,overlay,saliency", "--picture-format", "svg")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (plain,) = Session(work / "m.onnx", ["cpu"]).saliency(work / "photo.png", top=2)
    scaled = plain.maps / plain.maps.max((1, 2), keepdims=True)
    np.testing.assert_allclose(np.load(tmp_path / "photo.npy"), scaled**3, rtol=1e-6)
    shown = titles(tmp_path / "photo.backlit.svg")
    assert shown[:4] == ["image", "sharpened", "sharpened overlay", "saliency"]


def test_a_new_kind_is_a_panel(work, tmp_path):
    args = (work / "m.onnx", work / "photo.png", "-o", tmp_path, "--panels", "image,sharpened")
    assert command(work, "saliency", *args, "--picture-format", "svg").returncode == 0
    assert titles(tmp_path / "photo.backlit.svg")[:2] == ["image", "sharpened"]


def test_a_new_kind_makes_boxes(work, sharpened, tmp_path):
    args = (work / "m.onnx", work / "photo.png", "-o", tmp_path, "--picture-format", "svg")
    done = command(work, "localize", *args, "--map", "sharpened", "--exponent", 3)
    assert done.returncode == 0, done.stderr
    recipe = dataclasses.replace(RECIPES["default"], map=sharpened(3), otherwise=None)
    session = Session(work / "m.onnx", ["cpu"])
    (found,) = session.localize(work / "photo.png", recipe=recipe)
    assert found.boxes[0] is not None
    assert found.map == "sharpened"
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line["results"][0]["box"] == list(found.boxes[0])
    assert titles(tmp_path / "photo.backlit.svg")[:2] == ["image", "sharpened"]
    settings = json.loads((tmp_path / "boxes.run.json").read_text())["settings"]
    assert settings["recipe's map"] == {"name": "sharpened", "exponent": 3.0}


def test_a_new_kind_is_in_help_and_errors(work):
    shown = " ".join(command(work, "saliency", "-h").stdout.split())
    assert "sharpened: saliency raised to a power" in shown
    assert "--exponent FLOAT sharpened: the power. [default: 2.0]" in shown
    done = command(work, "saliency", work / "m.onnx", work / "photo.png", "--exponent", 3)
    assert done.returncode == 2
    assert "--exponent is an option of sharpened, and --map is not given" in done.stderr
    done = command(work, "localize", work / "m.onnx", work / "photo.png", "--map", "x")
    assert done.returncode == 2
    assert "'sharpened'" in done.stderr


# The table


@pytest.mark.parametrize("name", KINDS)
def test_a_row_is_whole(name):
    kind = get_kind(name)
    assert kind.name == name
    assert kind.help
    assert not {";", ":"} & set(kind.help)  # the help of --map lists them between such
    assert kind.colormap in NAMES
    assert isinstance(kind, OneRun) != isinstance(kind, ManyRuns)
    assert get_kind(kind) is kind
    assert json.loads(json.dumps(kind.settings()))["name"] == name


def test_options_of_one_name_are_the_same_option(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Other(SmoothGrad):
        name = "other"
        samples: int = option(10, "of something else.")

    monkeypatch.setitem(KINDS, "other", Other)
    with pytest.raises(ValueError, match="--samples differs between the kinds smoothgrad, other"):
        map_options.map_options("saliency")


# The gradient


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_gradient_is_what_the_score_gains_where_a_pixel_gets_brighter(tmp_path, dtype):
    linear = write_linear_file(tmp_path / "m.onnx", output="gradient", dtype=dtype)
    session = Session(linear.path, ["cpu"], 1)
    spec = linear.contract.image
    image = np.full((spec.height, spec.width, 3), 100, np.uint8)
    (found,) = session.saliency(image, [1, 3], map="gradient")
    np.testing.assert_allclose(found.maps, linear.gradient()[[1, 3]].sum(1), rtol=1e-5, atol=1e-6)
    assert found.maps.min() < 0 < found.maps.max()
    if dtype == "uint8":
        brighter = np.stack([image, image])
        brighter[1, 2, 3] += 100
        before, after = session.run(brighter, np.array([[1, 3]] * 2)).score
        np.testing.assert_allclose(100 * found.maps[:, 2, 3], after - before, rtol=1e-3, atol=1e-4)


def test_the_gradient_needs_a_file_that_returns_it(work):
    session = Session(work / "plain.onnx", ["cpu"])
    with pytest.raises(OptionError, match="signs, which the file does not return") as caught:
        session.saliency(work / "photo.png", map="gradient")
    assert "--maps saliency,features,gradient" in caught.value.fix
    assert file_outputs("saliency", session.contract) == ("saliency",)
    both = Session(work / "m.onnx", ["cpu"]).contract
    assert file_outputs("saliency", both) == file_outputs("gradient", both) == ("gradient",)

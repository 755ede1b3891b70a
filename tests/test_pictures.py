"""The pictures of ``saliency`` and ``localize``: panels, colours, scales, pages, PNG and SVG."""

import base64
import io
import json
import shutil
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime.cli import group as cli
from backlit.runtime.drawing import colormaps, panels, pictures
from backlit.runtime.drawing.svg import svg
from backlit.runtime.errors import OutputError
from click.testing import CliRunner
from PIL import Image
from support.linear_file import write_linear_file

SIDE, BRIGHT, DARK = 32, 200, 20
LABELS = ("cat & dog <x>", "bird", "hen")
SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"


def run(*args, stdin=None):
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], input=stdin)


def lines(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def read(path):
    return np.asarray(Image.open(path))


def panel(picture, index, height=SIDE, width=SIDE, row=0):
    """A panel of a picture, where the layout says it is."""
    high, wide = panels.panel_size(height, width)
    top = row * (high + 2 * panels.STRIP) + panels.STRIP
    left = panels.GAP + index * (wide + panels.GAP)
    return picture[top : top + high, left : left + wide]


def halves(picture):
    """One pixel of the left and one of the right half."""
    high, wide = picture.shape[:2]
    return picture[high // 2, wide // 4], picture[high // 2, 3 * wide // 4]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A classifier whose first class gains from the left half and loses from the right one."""
    folder = tmp_path_factory.mktemp("work")
    weight = np.ones((3, 3, SIDE, SIDE), np.float32)
    weight[0, ..., SIDE // 2 :] = -1
    weight[1, :, SIDE // 4 : SIDE // 2, SIDE // 4 : SIDE // 2] = 20
    options = {"height": SIDE, "width": SIDE, "classes": 3, "weight": weight, "labels": LABELS}
    write_linear_file(folder / "m.onnx", output="gradient", **options)
    (folder / "photos").mkdir()
    for name, value in (("a", BRIGHT), ("b", DARK), ("c", BRIGHT // 2)):
        Image.new("RGB", (SIDE, SIDE), (value,) * 3).save(folder / "photos" / f"{name}.png")
    return folder


@pytest.fixture
def saliency(work, tmp_path):
    def draw(*args, out="out", images=(work / "photos",), stdin=None):
        options = [str(arg) for arg in args]
        if "--class" not in options:
            options += ["--class", "0"]
        found = run("saliency", work / "m.onnx", *images, "-o", tmp_path / out, *options,
                    stdin=stdin)  # fmt: skip
        return lines(found), tmp_path / out

    return draw


# Signs and colours


@pytest.mark.parametrize("kind", ["ig", "gradxinput"])
def test_signs_are_seen(saliency, kind):
    found, out = saliency("--map", kind)
    table = colormaps.table("blue-orange")
    for line in found:
        maps = np.load(line["npy"])[0]
        assert (maps[:, : SIDE // 2] > 0).all()
        assert (maps[:, SIDE // 2 :] < 0).all()
        left, right = halves(panel(read(out / f"{Path(line['image']).stem}.backlit.png"), 1))
        np.testing.assert_array_equal(left, table[255])
        np.testing.assert_array_equal(right, table[1])


@pytest.mark.parametrize("name", colormaps.SEQUENTIAL)
def test_other_colours_show_the_magnitude(saliency, name):
    _, out = saliency("--map", "gradxinput", "--colormap", name)
    for pixel in halves(panel(read(out / "a.backlit.png"), 1)):
        np.testing.assert_array_equal(pixel, colormaps.table(name)[255])


def test_completeness_of_saved_maps(saliency, work):
    """Integrated Gradients that were saved add up to what the score gains over black."""
    found, _ = saliency("--map", "ig", "--class", 1)
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    (start,) = Session(work / "m.onnx", ["cpu"]).saliency(black, 1)
    for line in found:
        gain = line["scores"][0] - float(start.scores[0])
        assert np.load(line["npy"]).sum() == pytest.approx(gain, rel=1e-4)


# Scales


def test_one_scale_for_the_batch(saliency):
    """An image with a tenth of the light has a tenth of the map, and a tenth of the colour."""
    table = colormaps.table("blue-orange")
    options = ("--map", "gradxinput", "--scale")
    _, own = saliency(*options, "image", out="own")
    for name in "ab":
        np.testing.assert_array_equal(
            halves(panel(read(own / f"{name}.backlit.png"), 1))[0], table[255]
        )
    found, out = saliency(*options, "run")
    shares = {"a": 127, "b": 13, "c": 64}  # of 127, rounded to even
    for name, level in shares.items():
        left, right = halves(panel(read(out / f"{name}.backlit.png"), 1))
        np.testing.assert_array_equal(left, table[128 + level])
        np.testing.assert_array_equal(right, table[128 - level])
    top = max(panels.peak(np.load(line["npy"])[0]) for line in found)
    saliency(*options, repr(top), out="fixed")
    for name in shares:
        same = (own.parent / "fixed" / f"{name}.backlit.png").read_bytes()
        assert same == (out / f"{name}.backlit.png").read_bytes()


def test_all_classes_share_the_scale_of_the_batch(saliency):
    _, out = saliency("--class", 0, "--class", 1, "--scale", "run", "--colormap", "grey")
    picture = read(out / "a.backlit.png")
    first, second = (panel(picture, 1, row=row) for row in range(2))
    np.testing.assert_array_equal(halves(first)[0], [round(255 / 20)] * 3)
    assert (second[100:140, 100:140] == 255).all()


def test_a_bar_says_what_the_colours_mean(saliency):
    def strip(out):
        _, wide = panels.panel_size(SIDE, SIDE)
        return read(out / "a.backlit.png")[: panels.STRIP, panels.GAP + wide :]

    options = ("--map", "gradxinput", "--scale")
    plain = strip(saliency(*options, "image", out="plain")[1])
    fixed = strip(saliency(*options, 2, out="fixed")[1])
    other = strip(saliency(*options, 3, out="other")[1])
    colours = {tuple(colour) for colour in colormaps.table("blue-orange")[[8, 60, 196, 250]]}

    def count(part):
        return sum(
            min(np.abs(part.astype(int) - colour).sum(2).min(), 99) < 12 for colour in colours
        )

    assert (count(plain), count(fixed), count(other)) == (0, 4, 4)
    assert (fixed != other).any()  # the numbers
    middle = panels.STRIP // 2
    ramp = fixed[middle].astype(int)
    blue, orange = ramp[:, 2] - ramp[:, 0] > 60, ramp[:, 0] - ramp[:, 2] > 60
    assert np.flatnonzero(blue).max() < np.flatnonzero(orange).min()


def test_everything_else_is_the_same_on_one_scale(work, tmp_path):
    args = ("localize", work / "m.onnx", work / "photos", "--class", "1", "-o")
    plain = run(*args, tmp_path / "plain").stdout
    assert run(*args, tmp_path / "run", "--scale", "run").stdout == plain
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {f"{n}.{s}" for n in "abc" for s in ("backlit.png", "npy")} | {
        "boxes.jsonl", "boxes.run.json",
    }  # fmt: skip
    first, second = (read(tmp_path / out / "a.backlit.png") for out in ("plain", "run"))
    np.testing.assert_array_equal(panel(first, 2), panel(second, 2))
    np.testing.assert_array_equal(panel(first, 3), panel(second, 3))


def test_a_run_on_one_scale_goes_on(work, tmp_path):
    """What comes later may change the scale: the earlier pictures are drawn again."""
    images = [work / "photos" / f"{name}.png" for name in "bca"]
    options = ("--class", 0, "--map", "gradxinput", "--scale", "run", "--resume",
               "--sheet")  # fmt: skip

    def localize(out, some):
        page = tmp_path / f"{out}.png"
        return lines(run("localize", work / "m.onnx", *some, "-o", tmp_path / out, *options, page))

    localize("whole", images)
    localize("parts", images[:1])
    faint = (tmp_path / "parts" / "b.backlit.png").read_bytes()
    localize("parts", images[:2])
    localize("parts", images)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "parts" / "b.backlit.png").read_bytes() != faint
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "parts.png").read_bytes()
    assert localize("parts", images) == []
    (tmp_path / "parts" / "c.npy").unlink()
    result = run("localize", work / "m.onnx", *images, "-o", tmp_path / "parts", *options,
                 tmp_path / "parts.png")  # fmt: skip
    assert result.exit_code == 1
    assert "c.npy cannot be read" in result.stderr
    result = run("localize", work / "m.onnx", *images, "-o", tmp_path / "parts", "--class", 0,
                 "--map", "gradxinput", "--resume")  # fmt: skip
    assert 'scale "run", not "image"' in result.stderr


# Several maps side by side


def test_kinds_side_by_side(saliency, work):
    shown = "image,saliency,smoothgrad,gradxinput,overlay"
    found, out = saliency("--panels", shown, "--class", 2, "--class", 0)
    session = Session(work / "m.onnx", ["cpu"])
    for line in found:
        assert list(line) == [
                "image", "width", "height", "classes", "labels", "scores", "map", "npy",
            ]  # fmt: skip
        stem = Path(line["image"]).stem
        for kind, name in (
            ("saliency", f"{stem}.npy"),
            ("smoothgrad", f"{stem}.smoothgrad.npy"),
            ("gradxinput", f"{stem}.gradxinput.npy"),
        ):
            (truth,) = session.saliency(line["image"], [2, 0], map=kind)
            np.testing.assert_array_equal(np.load(out / name), truth.maps)
        picture = read(out / f"{stem}.backlit.png")
        _, wide = panels.panel_size(SIDE, SIDE)
        assert picture.shape[1] == 5 * wide + 6 * panels.GAP
        for row, negative in ((0, 255), (1, 1)):
            right = halves(panel(picture, 3, row=row))[1]
            np.testing.assert_array_equal(right, colormaps.table("blue-orange")[negative])


def test_kinds_do_not_disturb_each_other(work, tmp_path, monkeypatch):
    """They run at the same time, each in a session, whose buffers are its own."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number:02d}.png")
    plain, busy, shared = Session.run, set(), []

    def slow(session, *args):
        shared.extend(busy & {session})
        busy.add(session)
        time.sleep(0.003)
        try:
            return plain(session, *args)
        finally:
            busy.discard(session)

    monkeypatch.setattr(Session, "run", slow)
    args = ("saliency", work / "m.onnx", tmp_path, "--class", 0, "--batch", 2, "--no-pictures")
    kinds = ("gradxinput", "smoothgrad", "saliency")
    lines(run(*args, "-o", tmp_path / "out", "--panels", ",".join(kinds)))
    assert not shared
    slope = 1 / 255 / np.array([0.2, 0.25, 0.3])
    for number, image in enumerate(images):
        expected = (image * slope).sum(2)
        expected[:, SIDE // 2 :] *= -1
        found = np.load(tmp_path / "out" / f"{number:02d}.npy")[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        for kind in kinds[1:]:
            found = np.load(tmp_path / "out" / f"{number:02d}.{kind}.npy")[0]
            np.testing.assert_allclose(found, slope.max(), rtol=1e-4)


def test_kinds_side_by_side_of_a_slow_list_with_a_bad_image(work, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    images = [work / "photos" / "a.png", tmp_path / "bad.png", work / "photos" / "b.png"]
    args = ("saliency", work / "m.onnx", "-", "-o", tmp_path / "out", "--scale", "run")
    result = run(*args, "--panels", "saliency,gradxinput", stdin="\n".join(map(str, images)))
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["image"] for line in found] == [str(image) for image in images]
    assert ["error" in line for line in found] == [False, True, False]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}.{suffix}"
        for name in ("000001_a", "000003_b")
        for suffix in ("backlit.png", "npy", "gradxinput.npy")
    }


def test_titles_say_which_map(saliency):
    def titles(*args):
        args = (*args, "--picture-format", "svg")
        root = ElementTree.parse(saliency(*args)[1] / "a.backlit.svg").getroot()
        return [one.text for one in root.iter(f"{SVG}text")][:-1]

    assert titles("--panels", "overlay") == ["saliency overlay"]
    assert titles("--map", "ig") == ["image", "ig"]
    shown = titles("--map", "ig", "--panels", "ig,saliency,overlay,map,gradient")
    assert shown == ["ig", "saliency", "ig overlay", "ig", "gradient"]
    shown = titles("--panels", "gradxinput,overlay", "--scale", 1e-30)
    assert shown[:2] == ["-1e-30", "1e-30"]
    assert shown[2] == "gradxinput"
    assert shown[5].startswith("gradxinput")


def test_panels_of_localize(work, tmp_path):
    args = ("localize", work / "m.onnx", work / "photos" / "a.png", "--class", 1, "-o")
    run(*args, tmp_path / "plain")
    run(*args, tmp_path / "chosen", "--panels", "box,image")
    plain, chosen = (read(tmp_path / out / "a.backlit.png") for out in ("plain", "chosen"))
    np.testing.assert_array_equal(panel(chosen, 0), panel(plain, 3))
    np.testing.assert_array_equal(panel(chosen, 1), panel(plain, 0))


def test_pictures_are_the_same_each_time(saliency):
    options = ("--panels", "image,ig,overlay", "--scale", "run")
    for suffix in ("png", "svg"):
        args = (*options, "--picture-format", suffix)
        first = saliency(*args, out="one")[1] / f"a.backlit.{suffix}"
        second = saliency(*args, out="two")[1] / f"a.backlit.{suffix}"
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--panels", "image,mask"], "there is no panel 'mask'"),
        (["--panels", ""], "there is no panel ''"),
        (["--panels", "image,gradcam"], "no 'gradcam' map"),
        (["--scale", "batch"], "--scale batch is neither"),
        (["--scale", "nan"], "--scale nan is neither"),
        (["--scale", "-1"], "--scale -1 is neither"),
        (["--sheet", "s.png", "--no-pictures"], "--no-pictures draws none"),
        (["--sheet", "s.svg"], "--sheet s.svg is no .png file"),
        (["--colormap", "jet"], "'jet' is not one of"),
    ],
)
def test_options_that_make_no_sense(work, tmp_path, options, words):
    result = run("saliency", work / "m.onnx", work / "photos", "-o", tmp_path / "o", *options)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize(
    "options",
    [["--panels", "image"], ["--colormap", "grey"], ["--scale", "run"],
     ["--picture-format", "svg"], ["--sheet", "s.png"]],
)  # fmt: skip
@pytest.mark.parametrize("command", ["saliency", "localize"])
def test_pictures_need_a_folder(work, command, options):
    result = run(command, work / "m.onnx", work / "photos", *options)
    assert result.exit_code == 2
    assert "-o FOLDER" in result.stderr


# SVG


def drawn(element):
    """The picture of an image element."""
    kind, _, data = element.attrib[HREF].partition(";base64,")
    assert kind in ("data:image/jpeg", "data:image/png")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))


def test_svg_has_no_characters_that_xml_cannot_hold():
    panel = panels.Panel("saliency", np.zeros((40, 200, 3), np.uint8))
    root = ElementTree.fromstring(svg([panels.Row((panel,), "b\x07ird & co")]))
    assert [one.text for one in root.iter(f"{SVG}text")] == ["saliency", "bird & co"]


def test_svg_is_whole_and_needs_nothing_else(work, tmp_path):
    photo = tmp_path / "wide.png"
    rng = np.random.default_rng(3)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    small.resize((400, 300), Image.Resampling.BICUBIC).save(photo)
    args = ("localize", work / "m.onnx", photo, "--class", 1, "--class", 0, "-o", tmp_path)
    (line,) = lines(run(*args, "--picture-format", "svg", "--scale", 0.5))
    text = (tmp_path / "wide.backlit.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    high, wide = panels.panel_size(300, 400)
    size = (4 * wide + 5 * panels.GAP, 2 * (high + 2 * panels.STRIP))
    assert root.attrib["viewBox"] == f"0 0 {size[0]} {size[1]}"
    elements = list(root.iter())
    assert {one.tag.removeprefix(SVG) for one in elements} == {
        "svg", "desc", "g", "rect", "image", "text", "path",
    }  # fmt: skip
    for address in ("http:", "https:", "file:", "url(", "@import", "<script", "<style"):
        found = text.replace('="http://www.w3.org/2000/svg"', "")
        assert address not in found.replace('="http://www.w3.org/1999/xlink"', "")

    texts = [one.text for one in root.iter(f"{SVG}text")]
    titles = ["image", "0", "0.5", "saliency", "mask", "box"]
    captions = [f"{name}, score {row['score']:.2f}" for name, row in zip(
        (LABELS[1], LABELS[0]), line["results"], strict=True)]  # fmt: skip
    assert texts == [*titles, captions[0], *titles[:-1], "nothing found", captions[1]]

    photos = [one for one in root.iter(f"{SVG}image") if one.attrib["height"] == str(high)]
    assert len(photos) == 8
    base = drawn(photos[0])
    assert base.shape == (2 * high, 2 * wide, 3)
    expected = panels.resized(read(photo), 2 * high, 2 * wide)
    assert np.abs(base.astype(int) - expected).mean() < 4
    assert [float(one.attrib["x"]) for one in photos[:4]] == [
        panels.GAP + index * (wide + panels.GAP) for index in range(4)
    ]
    # The bright line lies just inside the edges of the box, which is in pixels of 400 x 300.
    box = np.array(line["results"][0]["box"]) * wide / 400
    bright = [
        one for one in root.iter(f"{SVG}rect")
        if one.attrib.get("stroke") == "#ffd60a"
    ]  # fmt: skip
    x, y, width, height = (float(bright[0].attrib[key]) for key in ("x", "y", "width", "height"))
    outer = np.array([x - 2.5, y - 2.5, x + width + 2.5, y + height + 2.5])
    assert np.abs(outer - box).max() < 1.1
    # So does the contour, whose points are the border of the mask.
    path = next(one for one in root.iter(f"{SVG}path")).attrib["d"]
    points = np.array([point.split() for point in path.strip("MZ").split("L")], float)
    edges = [*points.min(0), *points.max(0)]
    assert np.abs(np.array(edges) - box).max() < 3


def test_the_svg_shows_what_the_png_shows(saliency):
    options = ("--map", "gradxinput", "--scale", 400)
    _, png = saliency(*options, out="png")
    _, svg = saliency(*options, "--picture-format", "svg", out="svg")
    for name in "abc":
        root = ElementTree.parse(svg / f"{name}.backlit.svg").getroot()
        images = [drawn(one) for one in root.iter(f"{SVG}image")]
        for index in range(2):
            both = halves(images[index]), halves(panel(read(png / f"{name}.backlit.png"), index))
            assert np.abs(np.subtract(*both, dtype=int)).max() <= 3
        bar = images[2]
        np.testing.assert_array_equal(bar[0], colormaps.table("blue-orange")[1:])


# A page of the run


def test_a_page_of_all_pictures(saliency):
    _, out = saliency()
    files = [out / f"{name}.backlit.png" for name in "abc"]
    pictures.save_sheet(out / "page.png", files)
    page, parts = read(out / "page.png"), [read(file) for file in files]
    places, (width, height) = pictures.grid([part.shape[1::-1] for part in parts])
    assert page.shape == (height, width, 3)
    for part, (x, y) in zip(parts, places, strict=True):
        np.testing.assert_array_equal(page[y : y + part.shape[0], x : x + part.shape[1]], part)


def test_pages_come_near_three_to_two():
    for sizes, columns in (([(400, 400)] * 6, 3), ([(1600, 320)] * 12, 2), ([(9, 9)], 1)):
        places, (width, height) = pictures.grid(sizes)
        assert (width, height) == (columns * sizes[0][0], -(-len(sizes) // columns) * sizes[0][1])
        assert len(set(places)) == len(sizes)
        assert places[0] == (0, 0)
    places, size = pictures.grid([(100, 10), (50, 80), (70, 20), (60, 60)])
    assert (places, size) == ([(0, 0), (100, 0), (0, 80), (100, 80)], (200, 140))


def test_the_page_of_a_run(saliency, work, tmp_path):
    _, out = saliency("--sheet", tmp_path / "page.png")
    pictures.save_sheet(tmp_path / "again.png", [out / f"{name}.backlit.png" for name in "abc"])
    assert (tmp_path / "page.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    _, out = saliency("--sheet", tmp_path / "page.svg", "--picture-format", "svg", out="svg")
    root = ElementTree.parse(tmp_path / "page.svg").getroot()
    nested = root.findall(f"{SVG}svg")
    parts = [ElementTree.parse(out / f"{name}.backlit.svg").getroot() for name in "abc"]
    sizes = [(int(part.attrib["width"]), int(part.attrib["height"])) for part in parts]
    places, _ = pictures.grid(sizes)
    for own, part, place in zip(nested, parts, places, strict=True):
        assert (own.attrib.pop("x"), own.attrib.pop("y")) == tuple(map(str, place))
        own.tail = part.tail = None
        assert ElementTree.tostring(own) == ElementTree.tostring(part)


def test_a_page_of_very_many_is_reduced(tmp_path):
    picture = np.full((300, 900, 3), 77, np.uint8)
    pictures.save(tmp_path / "a.png", picture)
    pictures.save_sheet(tmp_path / "page.png", [tmp_path / "a.png"] * 60)
    page = read(tmp_path / "page.png")
    assert page.shape[1] == 4096
    assert 1.2 < page.shape[1] / page.shape[0] < 1.9
    assert (page[:50, :50] == 77).all()
    with pytest.raises(OutputError, match=r"b\.png cannot be read"):
        pictures.save_sheet(tmp_path / "page.png", [tmp_path / "b.png"])
    shutil.copy(tmp_path / "page.png", tmp_path / "before.png")
    pictures.save_sheet(tmp_path / "page.png", [])
    assert (tmp_path / "page.png").read_bytes() == (tmp_path / "before.png").read_bytes()

"""How results show themselves: overlays, files, JSON, a notebook's pictures, tables, pickles."""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import os
import pickle
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime.contract import Contract
from backlit.runtime.drawing import display
from backlit.runtime.drawing.panels import OPAQUE
from backlit.runtime.errors import (
    BacklitError,
    ImageError,
    ModelError,
    OptionError,
    OutputError,
)
from backlit.runtime.results import Localization, Results, Saliency
from PIL import Image
from support.linear_file import write_linear_file

import backlit

RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
LABELS = ("cat", "<dog>", "hen", "fox", "owl")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    # the map of class 0 lies in the upper left quarter alone
    weight = np.zeros((5, 3, 32, 32), np.float32)
    weight[:, :, :16, :16] = RNG.standard_normal((5, 3, 16, 16)) + 4
    write_linear_file(folder / "m.onnx", height=32, width=32, labels=LABELS, weight=weight)
    Image.fromarray(PICTURE).save(folder / "photo.png")
    return folder


@pytest.fixture(scope="module")
def session(work: Path) -> Session:
    return Session(work / "m.onnx", ["cpu"], threads=1)


@pytest.fixture(scope="module")
def seen(session: Session, work: Path) -> Saliency:
    return session.saliency(work / "photo.png", classes=[0, 1])[0]


@pytest.fixture(scope="module")
def found(session: Session, work: Path) -> Localization:
    return session.localize(work / "photo.png", classes=[0, 1], map="saliency")[0]


@pytest.fixture(scope="module")
def failed(session: Session) -> Saliency:
    return session.saliency("absent.png")[0]


# Maps and overlays


def test_maps_at_the_images_size(seen: Saliency, found: Localization) -> None:
    for one in (seen, found):
        large = one.resized()
        assert large.shape == (2, 40, 60)
        assert large.dtype == np.float32
        for values, own in zip(large, one.maps, strict=True):
            np.testing.assert_array_equal(values, one.prepared.map_to_original(own))
    assert seen.resized()[0, :15, :25].min() > 0
    assert seen.resized()[0, 25:, 35:].max() == 0


def test_an_overlay_is_the_image_in_grey_and_colour_where_the_map_is(seen: Saliency) -> None:
    drawn = np.asarray(seen.overlay()).astype(float)
    assert drawn.shape == (40, 60, 3)
    grey = np.rint(PICTURE.astype(float).mean(2))
    np.testing.assert_array_equal(drawn[25:, 35:], np.repeat(grey[25:, 35:, None], 3, axis=2))
    assert np.ptp(drawn[:15, :25], axis=2).mean() > 20
    # the strongest pixel is the scale's last colour, as opaque as an overlay gets
    y, x = np.unravel_index(seen.resized()[0].argmax(), (40, 60))
    last = np.array([252, 255, 164])
    exact = PICTURE[y, x].mean() + OPAQUE * (last - PICTURE[y, x].mean())
    np.testing.assert_allclose(drawn[y, x], exact, atol=1.5)


def test_an_overlay_of_another_class_and_other_colours(seen: Saliency) -> None:
    pictures = [
        np.asarray(seen.overlay(which, colours))
        for which, colours in ((0, "inferno"), (1, "inferno"), (-1, "viridis"), (1, "grey"))
    ]
    for place, one in enumerate(pictures):
        assert not any(np.array_equal(one, other) for other in pictures[:place])
    for which in (2, -3, "cat"):
        with pytest.raises(OptionError, match="the result has 2 classes"):
            seen.overlay(which)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no colour map 'jet'"):
        seen.overlay(colormap="jet")


def test_a_box_is_drawn_where_it_is(found: Localization) -> None:
    drawn = np.asarray(found.overlay())
    assert found.boxes[0] is not None
    x0, y0, x1, y1 = found.boxes[0]
    yellow = (drawn == (255, 214, 10)).all(2)
    ys, xs = np.nonzero(yellow)
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (x0 + 1, y0 + 1, x1 - 2, y1 - 2)


def test_lines_of_large_images_are_thicker(session: Session) -> None:
    large = np.asarray(Image.fromarray(PICTURE).resize((1920, 1280)))
    one = session.localize(large, classes=0, map="saliency")[0]
    yellow = (np.asarray(one.overlay()) == (255, 214, 10)).all(2)
    assert one.boxes[0] is not None
    x0, y0, x1, _ = one.boxes[0]
    assert yellow[:, (x0 + x1) // 2][y0 : y0 + 40].sum() == 9


def test_a_spike_of_a_large_map_is_seen() -> None:
    values = np.zeros((1301, 1301), np.float32)
    values[701, 701] = 3
    drawn = np.asarray(display.overlay(np.full((1301, 1301, 3), 90, np.uint8), values))
    assert set(zip(*np.nonzero(drawn[..., 0] != 90), strict=True)) == {(701, 701)}


def test_an_overlay_reads_the_image_again(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    monkeypatch.chdir(tmp_path)
    (one,) = session.saliency("a.png")
    monkeypatch.chdir(tmp_path.parent)
    assert one.image == "a.png"
    assert one.overlay().size == (60, 40)
    Image.fromarray(PICTURE[:20]).save(path)
    with pytest.raises(ImageError, match=r"is 60x20 pixels now, and was 60x40"):
        one.overlay()
    path.unlink()
    with pytest.raises(ImageError, match="does not exist"):
        one.overlay()


# Failures


@pytest.mark.parametrize("method", ["overlay", "resized", "original"])
def test_what_a_failed_result_lacks_raises_its_error(failed: Saliency, method: str) -> None:
    assert failed.image == "absent.png"
    with pytest.raises(ImageError, match=r"absent\.png does not exist"):
        getattr(failed, method)()
    for field in ("maps", "classes", "labels", "scores", "width", "prepared"):
        with pytest.raises(ImageError, match=r"absent\.png does not exist"):
            getattr(failed, field)
    with pytest.raises(AttributeError, match="no attribute 'boxen'"):
        _ = failed.boxen  # type: ignore[attr-defined]


def test_a_failed_result_shows_its_error(failed: Saliency, tmp_path: Path) -> None:
    assert repr(failed) == "<Saliency absent.png: ImageError: absent.png does not exist.>"
    assert json.loads(failed.to_json()) == {
        "image": "absent.png", "error": "absent.png does not exist.",
    }  # fmt: skip
    assert "absent.png does not exist." in failed._repr_html_()
    assert failed._repr_png_() is None
    failed.save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == failed.to_dict()
    for name in ("a.png", "a.npz", "a.svg"):
        with pytest.raises(ImageError, match=r"absent\.png does not exist"):
            failed.save(tmp_path / name)
    assert os.listdir(tmp_path) == ["a.json"]


def test_sound_results_have_no_error(seen: Saliency, found: Localization) -> None:
    assert seen.error is None
    assert found.error is None


# JSON, files


def test_json(seen: Saliency, found: Localization, work: Path) -> None:
    assert json.loads(seen.to_json()) == seen.to_dict()
    assert seen.to_dict() == {
        "image": str(work / "photo.png"), "width": 60, "height": 40, "classes": [0, 1],
        "labels": ["cat", "<dog>"], "scores": [float(str(one)) for one in seen.scores],
        "map": "saliency",
    }  # fmt: skip
    assert json.loads(found.to_json()) == found.to_dict()
    first = found.to_dict()["results"][0]
    assert first["box"] == list(found.boxes[0] or ())
    assert (first["class"], first["label"], first["recipe"]) == (0, "cat", "default")


def test_files_of_every_kind(seen: Saliency, found: Localization, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    for one in (seen, found):
        name = type(one).__name__
        for kind in ("png", "jpg", "JPEG", "webp", "svg", "json", "npz", "npy"):
            one.save(folder / f"{name}.{kind}")
        for kind, wanted in (("png", "PNG"), ("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP")):
            with Image.open(folder / f"{name}.{kind}") as image:
                assert image.format == wanted
                assert image.width > 300
                assert len(np.unique(np.asarray(image.convert("L")))) > 100
        assert (folder / f"{name}.svg").read_text().startswith("<svg")
        assert json.loads((folder / f"{name}.json").read_text()) == one.to_dict()
        np.testing.assert_array_equal(np.load(folder / f"{name}.npy"), one.maps)
        with np.load(folder / f"{name}.npz") as arrays:
            np.testing.assert_array_equal(arrays["maps"], one.maps)
            np.testing.assert_array_equal(arrays["classes"], one.classes)
            if isinstance(one, Localization):
                np.testing.assert_array_equal(arrays["masks"], one.masks)
                np.testing.assert_array_equal(arrays["boxes"], np.array(one.boxes))


@pytest.mark.parametrize("name", ["out", "out.gif", "", "."])
def test_a_name_that_does_not_say_what_to_write(
    seen: Saliency, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="does not say what to write"):
        seen.save(name)
    assert os.listdir(tmp_path) == []


def test_a_file_object_is_no_path(seen: Saliency) -> None:
    with pytest.raises(OutputError, match="BytesIO is no path"):
        seen.save(io.BytesIO())  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made(seen: Saliency, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        seen.save(tmp_path / "file" / "a.png")
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        seen.save(tmp_path / "a.png")


# Notebooks


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


def test_a_notebook_shows_pictures_and_numbers(seen: Saliency, found: Localization) -> None:
    for one in (seen, found):
        html = one._repr_html_()
        (picture,) = pictures(html)
        assert picture.width > 300
        assert "&lt;dog&gt;" in html
        assert "<dog>" not in html
        assert f"{one.scores[0]:.2f}" in html
        png = one._repr_png_()
        assert png is not None
        with Image.open(io.BytesIO(png)) as same:
            assert same.size == picture.size
    assert str(found.boxes[0]) in found._repr_html_()


def test_many_classes_are_not_all_drawn(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = session.saliency(PICTURE, top=5)
    small = one.figure(2)
    assert "3 more classes" in small
    assert pictures(small)[0].height < pictures(one.figure(5))[0].height


def test_a_list_shows_all_results_up_to_a_dozen(session: Session) -> None:
    results = session.saliency([PICTURE] * 14 + ["absent.png"])
    html = results._repr_html_()
    assert len(pictures(html)) == 12
    assert "and 3 more" in html
    assert [one.image for one in results.failed] == ["absent.png"]
    assert "no images" in session.saliency([])._repr_html_()
    part = results[12:]
    assert len(pictures(part._repr_html_())) == 2
    assert part[2].image == "absent.png"
    assert pickle.loads(pickle.dumps(part)).to_dicts() == part.to_dicts()
    assert json.loads(results.to_json()) == [one.to_dict() for one in results]


def test_a_list_saves_itself(session: Session, work: Path, tmp_path: Path) -> None:
    results = session.saliency([work / "photo.png", "absent.png", PICTURE, work / "photo.png"])
    assert isinstance(results, Results)
    results.save(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "00000_photo.png", "00002_image.png", "00003_photo.png", "results.json",
    ]  # fmt: skip
    lines = json.loads((tmp_path / "out" / "results.json").read_text())
    assert lines == results.to_dicts()


def test_without_opencv_the_numbers_are_still_shown(
    seen: Saliency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    html = seen._repr_html_()
    assert "pip install 'backlit[boxes]'" in html.replace("&#x27;", "'")
    assert f"{seen.scores[0]:.2f}" in html
    assert seen._repr_png_() is None
    with pytest.raises(BacklitError, match="OpenCV"):
        seen.overlay()


def test_a_text_is_short(seen: Saliency, found: Localization, session: Session) -> None:
    assert re.fullmatch(r"<Saliency .*photo\.png 60x40: cat [\d.-]+, <dog> [\d.-]+>", repr(seen))
    assert len(repr(found)) < 200
    (many,) = session.saliency(PICTURE, top=5)
    assert repr(many).endswith(", ...>")
    assert "image 60x40" in repr(many)


# Tables


def test_a_dataframe(session: Session, work: Path) -> None:
    pandas = pytest.importorskip("pandas")
    paths = [work / "photo.png", "absent.png"]
    boxes = session.localize(paths, top=2, map="saliency")
    table = backlit.to_pandas(boxes)
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 3
    first = boxes[0]
    assert table["class"].tolist()[:2] == first.classes.tolist()
    assert table["label"].tolist()[:2] == list(first.labels)
    np.testing.assert_allclose(table["score"][:2], first.scores)
    assert tuple(table.loc[0, ["x0", "y0", "x1", "y1"]]) == first.boxes[0]
    assert table["error"][2] == "absent.png does not exist."
    assert table.loc[2, ["width", "class", "x0", "score"]].isna().all()
    assert table.loc[:1, "error"].isna().all()
    stream = session.stream_saliency(paths, top=2)
    assert list(backlit.to_pandas(stream)["map"][:2]) == ["saliency"] * 2
    assert len(backlit.to_pandas(first)) == 2
    assert list(backlit.to_pandas([]).columns) == list(table.columns)
    with pytest.raises(OptionError, match="str is no result"):
        backlit.to_pandas(["photo.png"])  # type: ignore[list-item]


def test_without_pandas_one_line_says_what_to_install(
    seen: Saliency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BacklitError) as caught:
        backlit.to_pandas(seen)
    assert caught.value.fix == "pip install pandas"


# Pickles


def only_saliency(contract: Contract) -> Sequence[str]:
    return ["saliency"]


def test_a_session_opens_again(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    session = Session("m.onnx", "cpu", 1, only_saliency, {"cpu": {}})
    data = pickle.dumps(session)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(data)
    assert (again.path, again.provider, again.options) == ("m.onnx", "cpu", {"cpu": {}})
    assert again.contract == session.contract
    (one,), (other,) = session.saliency(PICTURE, top=3), again.saliency(PICTURE, top=3)
    np.testing.assert_array_equal(one.maps, other.maps)
    np.testing.assert_array_equal(one.scores, other.scores)
    third = pickle.loads(pickle.dumps(again))
    assert third.path == "m.onnx"
    lost = tmp_path / "lost.onnx"
    write_linear_file(lost)
    data = pickle.dumps(Session(lost, "cpu"))
    lost.unlink()
    with pytest.raises(ModelError, match="does not exist"):
        pickle.loads(data)


def test_a_function_of_no_module_is_no_hindrance(work: Path) -> None:
    session = Session(work / "m.onnx", "cpu", maps=lambda _: ["saliency"])
    assert pickle.loads(pickle.dumps(session)).contract == session.contract


def test_a_sibling_still_shares_the_open_file(session: Session) -> None:
    other = session.sibling()
    assert other is not session
    assert other.contract is session.contract
    assert other._bindings is not session._bindings


def test_results_are_pickled(seen: Saliency, found: Localization, failed: Saliency) -> None:
    for one in (seen, found):
        again = pickle.loads(pickle.dumps(one))
        np.testing.assert_array_equal(again.maps, one.maps)
        assert again.to_dict() == one.to_dict()
        assert again.overlay().tobytes() == one.overlay().tobytes()
    again = pickle.loads(pickle.dumps(failed))
    assert again.to_dict() == failed.to_dict()
    assert isinstance(again.error, ImageError)


def test_a_session_goes_to_another_process(session: Session, work: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        done: list[Any] = pool.apply(session.saliency, (str(work / "photo.png"), [0, 1]))
    wanted = session.saliency(work / "photo.png", [0, 1])
    assert [one.to_dict() for one in done] == wanted.to_dicts()
    np.testing.assert_array_equal(done[0].maps, wanted[0].maps)

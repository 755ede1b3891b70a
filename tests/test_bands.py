"""Images of other than one or three channels, from arrays and from TIFF files to maps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime.errors import ImageError, OptionError
from backlit.runtime.images.bands import load_for, seen
from backlit.runtime.maps.classmodel import ascend
from PIL import Image
from support import small

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Session]:
    folder = tmp_path_factory.mktemp("bands")
    made = {}
    for channels in (2, 4, 6):
        path = folder / f"{channels}.onnx"
        export(
            small.convnet(channels=channels),
            path,
            verify=False,
            maps=["saliency", "gradient"],
        )
        made[channels] = Session(path, ["cpu"], threads=1)
    return made


def picture(channels: int, height: int = 12, width: int = 12) -> Array:
    rng = np.random.default_rng(channels)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_arrays_give_maps_in_their_own_pixels(sessions: dict[int, Session], channels: int) -> None:
    session, large = sessions[channels], picture(channels, 30, 20)
    own, resized = session.saliency([picture(channels), large])
    direct = session.run(picture(channels)[None], own.classes[None])
    np.testing.assert_array_equal(own.maps, direct.saliency[0])
    assert resized.maps.shape == (1, 12, 12)
    assert resized.maps.max() > 0
    assert resized.original().shape == (30, 20, 3)
    (found,) = session.localize(large, map="saliency")
    x0, y0, x1, y1 = found.boxes[0]
    assert 0 <= x0 < x1 <= 20
    assert 0 <= y0 < y1 <= 30


def test_bands_are_resized_each_by_itself(sessions: dict[int, Session]) -> None:
    large = picture(6, 30, 20)
    (found,) = sessions[6].saliency(large)
    for band in range(6):
        one = Image.fromarray(large[..., band]).resize((12, 12), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found.prepared.views[0, ..., band], np.asarray(one))


def tiff(pages: list[Image.Image]) -> bytes:
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def test_tiff_files_with_a_page_for_each_band(tmp_path: Path) -> None:
    pixels = picture(6)
    data = tiff([Image.fromarray(pixels[..., c]) for c in range(6)])
    (tmp_path / "six.tif").write_bytes(data)
    for source in (tmp_path / "six.tif", str(tmp_path / "six.tif"), data):
        np.testing.assert_array_equal(load_for(source, 6), pixels)


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("CMYK", 4), ("LA", 2)])
def test_bands_that_a_picture_has_are_taken_as_they_are(mode: str, channels: int) -> None:
    """No transparency is composited: the fourth band is infrared, say."""
    pixels = picture(channels)
    image = Image.frombytes(mode, (12, 12), pixels.tobytes())
    for source in (image, tiff([image])):
        np.testing.assert_array_equal(load_for(source, channels), pixels)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: picture(3), r"has shape \[12, 12, 3\]; the file takes 6 bands"),
        (lambda folder: picture(6).astype(np.float32), "dtype float32, not uint8"),
        (lambda folder: Image.fromarray(picture(3)), r"3 bands \(RGB\); the file takes 6 bands"),
        (lambda folder: tiff([Image.fromarray(picture(3)[..., 0])] * 4), "4 pages of 1 bands"),
        (lambda folder: folder / "photo.png", r"photo\.png has 3 bands \(RGB\)"),
        (lambda folder: folder / "absent.tif", "does not exist"),
        (lambda folder: folder / "text.tif", "not an image that Pillow reads"),
        (lambda folder: b"", "is empty"),
        (lambda folder: 5, "int is not an image"),
    ],
)  # fmt: skip
def test_what_has_other_bands_is_said(
    sessions: dict[int, Session], make: Any, says: str, tmp_path: Path
) -> None:
    Image.fromarray(picture(3)).save(tmp_path / "photo.png")
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(ImageError, match=says):
        load_for(make(tmp_path), 6)
    bad, good = sessions[6].saliency([make(tmp_path), picture(6)])
    assert bad.error is not None
    assert good.error is None


def test_pictures_are_as_ever() -> None:
    pixels = picture(3)
    np.testing.assert_array_equal(load_for(pixels, 3), pixels)
    assert seen(pixels) is pixels
    with pytest.raises(ImageError, match=r"has shape \[12, 12, 6\]"):
        load_for(picture(6), 3)


def test_class_models_are_pictures(sessions: dict[int, Session]) -> None:
    with pytest.raises(OptionError, match="takes 6 bands"):
        ascend(sessions[6], [0])

"""Images that strangers send."""

from __future__ import annotations

import io

import numpy as np
import pytest
from backlit.runtime.errors import ImageError
from backlit.runtime.images.load import load
from backlit.runtime.images.untrusted import FORMATS, encoded
from PIL import Image

PICTURE = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))


def written(kind: str) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_of_the_list_is_taken(kind: str) -> None:
    data = written(kind)
    assert encoded(data).data == data
    assert abs(load(encoded(data)).astype(int) - 90).max() < 4


@pytest.mark.parametrize("kind", ["DDS", "EPS", "PDF", "SGI", "SPIDER"])
def test_no_other_is(kind: str) -> None:
    picture = PICTURE if kind != "SPIDER" else PICTURE.convert("F")
    file = io.BytesIO()
    picture.save(file, kind)
    with pytest.raises(ImageError, match="not an image of a format that the service takes"):
        encoded(file.getvalue())


def test_what_is_damaged_is_left_to_the_decoder() -> None:
    with pytest.raises(ImageError, match="damaged or truncated"):
        load(encoded(written("JPEG")[:200]))


def test_a_format_that_this_pillow_lacks_ends_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF")
    assert encoded(written("PNG"))
    with pytest.raises(ImageError, match="not an image of a format"):
        encoded(b"junk")

"""File names for the results of images."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from ..maps.kinds import KINDS

PICTURE = ".backlit"
"""Before the suffix of a result's picture, so that it is not taken for the image itself."""

# cat.features.npy is the map features of cat, not the main map of cat.features.
_ENDS = tuple(f".{kind}" for kind in KINDS)


class Names:
    """File names for the results of images, without collisions and the same in every run.

    a/cat.jpg and b/cat.png are cat and cat_2. A list on stdin may be endless, and what it names
    cannot all be remembered: its images are numbered, 000001_cat and 000002_cat.
    """

    def __init__(self, numbered: bool = False) -> None:
        """Begin with the first image.

        Args:
            numbered: put the number of the image before its name.
        """
        self._numbered, self._count = numbered, 0
        self._used: set[str] = set()

    def take(self, image: str) -> str:
        """The name of the next image, at most 160 bytes long."""
        self._count += 1
        # File systems take 255 bytes, and prefix, suffix and a temporary name are still to come.
        stem = os.fsencode(Path(image).stem)[:150].decode("utf-8", "ignore") or "image"
        if self._numbered:
            return f"{self._count:06d}_{stem}"
        name, number = stem, 1
        while _key(name) in self._used or name.lower().endswith(_ENDS):
            number += 1
            name = f"{stem}_{number}"
        self._used.add(_key(name))
        return name


def _key(name: str) -> str:
    """What a file system that knows no case and one way to write an accent takes as one name."""
    return unicodedata.normalize("NFC", name).casefold()

"""``voc``: Pascal VOC's XML."""

from __future__ import annotations

import re
from itertools import chain, repeat
from pathlib import Path
from xml.etree import ElementTree

from ...errors import DatasetError
from .base import (
    FARTHEST,
    Box,
    Example,
    Reading,
    find_images,
    inclusive_box,
    lines,
    malformed,
    missing_images,
    read_bytes,
    stays,
    whole,
)
from .format import Asked, Format

_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp")


def find(path: Path) -> list[Path]:
    """The folder of ``Annotations``, or a list of its ``ImageSets/Main``."""
    if path.is_file():
        above = path.absolute().parents
        listed = path.suffix == ".txt" and len(above) > 2 and (above[2] / "Annotations").is_dir()
        return [path] if listed else []
    # Where names ignore case, COCO's folder of JSON files has this name too.
    return [path] if any((path / "Annotations").rglob("*.xml")) else []


def read(path: Path, asked: Asked) -> Reading:
    """Pascal VOC (Everingham et al. 2010; the devkit's documentation, section 8).

    ``Annotations/NAME.xml`` holds the objects of ``JPEGImages/NAME.jpg``: class, ``difficult``
    and ``bndbox`` in pixels that count from 1, the last included.

    Args:
        path: a list of names, such as ``ImageSets/Main/test.txt``; or the folder of
            ``Annotations``, which stands for ``ImageSets/Main/val.txt`` if that is there, else for
            every annotation.
        asked: ``images``, the folder of the pictures; None: ``JPEGImages``. ``difficult``: keep
            objects that are marked difficult, which VOC's evaluation ignores.

    Raises:
        DatasetError: a file is missing or malformed.
    """
    root = path if path.is_dir() else path.absolute().parents[2]
    annotations = root / "Annotations"
    default = root / "ImageSets" / "Main" / "val.txt"
    image_set = path if path.is_file() else default if default.is_file() else None
    if image_set:
        stems = _image_set(image_set, annotations)
    else:
        stems = sorted(
            file.relative_to(annotations).with_suffix("").as_posix()
            for file in annotations.rglob("*.xml")
        )
    if not stems:
        raise DatasetError(
            f"{image_set or annotations} names no image.", "give a set that has some."
        )
    stems = list(dict.fromkeys(stems))
    indices: dict[str, int] = {}
    objects: dict[str, tuple[tuple[int, int] | None, str, dict[int, tuple[Box, ...]]]] = {}
    for stem in stems:
        objects[stem] = _read_annotation(annotations / f"{stem}.xml", indices, asked.difficult)
    folders = (
        [asked.images]
        if asked.images
        else [root / "JPEGImages", root / "images", annotations, root]
    )
    files = find_images(stems, folders, _SUFFIXES)
    # Tools other than VOC's own may name the picture unlike the annotation.
    named = [stem for stem in stems if stem not in files and objects[stem][1]]
    others = find_images([objects[stem][1] for stem in named], folders) if named else {}
    files |= {stem: others[objects[stem][1]] for stem in named if objects[stem][1] in others}
    notes = missing_images(stems, files, folders)
    examples = [
        Example(stem, files[stem], objects[stem][0], objects[stem][2])
        for stem in stems
        if stem in files
    ]
    return Reading("VOC", examples, tuple(indices), notes)


def _image_set(path: Path, annotations: Path) -> list[str]:
    """The names in a list of ImageSets/Main."""
    names = []
    for number, line in lines(path):
        if not stays(line):
            raise malformed(path, number, f"{line!r} is no name.", "name files below Annotations.")
        # The lists of one class have a second column: 1, 0 (difficult), or -1 (not in the image).
        name, _, flag = line.rpartition(" ")
        if flag not in ("1", "0", "-1") or (annotations / f"{line}.xml").is_file():
            names.append(line)
        elif flag != "-1":
            names.append(name.strip())
    return names


def _read_annotation(
    path: Path, indices: dict[str, int], difficult: bool
) -> tuple[tuple[int, int] | None, str, dict[int, tuple[Box, ...]]]:
    """Size, file name and boxes of one annotation; new class names are added to ``indices``."""
    data = read_bytes(path)
    try:
        tree = ElementTree.fromstring(data)  # noqa: S314 # expat limits what entities expand to
    except ElementTree.ParseError as error:
        raise malformed(
            path, error.position[0], f"not XML ({error}).", "write the annotation again."
        ) from error
    except (ValueError, LookupError) as error:  # an encoding that expat does not know
        raise malformed(path, 1, f"{error}.", "save it as UTF-8.") from error
    places = [data.count(b"\n", 0, tag.start()) + 1 for tag in re.finditer(rb"<object\b", data)]
    size: tuple[int, int] | None = None
    width, height = (
        whole(tree.findtext(f"size/{side}", "").strip(), int(FARTHEST))
        for side in ("width", "height")
    )
    if width and height:
        size = width, height
    boxes: dict[int, tuple[Box, ...]] = {}
    for item, place in zip(tree.findall("object"), chain(places, repeat(None)), strict=False):
        name = item.findtext("name", "").strip()
        if not name:
            raise malformed(path, place, "an object without <name>.", "name its class.")
        index = indices.setdefault(name, len(indices))
        if item.findtext("difficult", "0").strip() == "1" and not difficult:
            continue
        box = item.find("bndbox")
        if box is None:
            raise malformed(path, place, f"a {name} without <bndbox>.", "give its box.")
        edges = [box.findtext(edge, "").strip() for edge in ("xmin", "ymin", "xmax", "ymax")]
        boxes[index] = (*boxes.get(index, ()), inclusive_box(edges, 1, path, place))
    return size, tree.findtext("filename", "").strip(), boxes


FORMAT = Format(
    "voc",
    "Pascal VOC (a folder with Annotations/*.xml, or a list of its ImageSets/Main)",
    find,
    read,
)

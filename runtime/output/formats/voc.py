"""``voc``: the annotations of Pascal VOC."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import PurePath
from typing import Any

from .format import Folder, Line

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def voc_annotation(line: Line) -> bytes:
    """The annotation of an image in the XML of Pascal VOC (Everingham 2010, development kit).

    Pixels are counted from 1, and xmax and ymax are the last ones inside. An object without a label
    is named by its class index. ``score``, which VOC does not have, is one more field of an object.
    """
    path = PurePath(line["image"])
    root = ElementTree.Element("annotation")
    _add(root, "folder", path.parent.name)
    _add(root, "filename", path.name)
    _add(root, "path", line["image"])
    source = ElementTree.SubElement(root, "source")
    _add(source, "database", "Unknown")
    _add(source, "annotation", "Backlit")
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", line["width"]), ("height", line["height"]), ("depth", 3)):
        _add(size, name, value)
    _add(root, "segmented", 0)
    for result in line["results"]:
        if result["box"] is None:
            continue
        x0, y0, x1, y1 = result["box"]
        one = ElementTree.SubElement(root, "object")
        _add(one, "name", result["class"] if result["label"] is None else result["label"])
        for name, value in (("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            _add(one, name, value)
        if result["score"] is not None:
            _add(one, "score", result["score"])
        edges = ElementTree.SubElement(one, "bndbox")
        for name, edge in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            _add(edges, name, edge)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8")
    return text + b"\n"


def _add(parent: ElementTree.Element, name: str, value: Any) -> None:
    ElementTree.SubElement(parent, name).text = _NOT_XML.sub("?", str(value))


_MARK = re.compile(rb"\A<annotation>.*?<annotation>Backlit</annotation>", re.DOTALL)

FORMAT = Folder(
    "voc", "Annotations/NAME.xml (Pascal VOC)", "Annotations", ".xml", voc_annotation, _MARK
)
"""In a folder that is called as VOC calls it."""

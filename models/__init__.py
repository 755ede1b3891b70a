"""The embedded default classifier, its labels and its sample images, as paths.

Importing this package loads neither torch nor OpenCV. `README.md` in this folder is the
classifier's card; `train`, `make_samples` and `draw` make everything here again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

_HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What the embedded classifier takes: ``(pixel / 255 - mean) / std``, RGB, float32 [N,3,S,S].

    Attributes:
        size: side S in pixels; the whole image is stretched to it.
        mean, std: per channel R, G, B, of pixels scaled to 0..1.
        range: what pixels are scaled to before mean and std.
        colour: channel order.
        resize: how a picture of another shape becomes S x S.
    """

    size: int = 96
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    range: str = "0-1"
    colour: str = "RGB"
    resize: str = "stretch"


PREPROCESSING = Preprocessing()
"""How pixels become the input of `tiny_convnet`; the same in training."""


def tiny_convnet() -> Path:
    """The embedded classifier: ONNX, input float32 [N,3,96,96], output logits float32 [N,12]."""
    return _HERE / "tiny_convnet.onnx"


def labels() -> Path:
    """Its labels, a UTF-8 text file with one name per line, line i for class i."""
    return _HERE / "tiny_convnet.labels.txt"


def samples() -> Path:
    """The folder of sample pictures; its ``boxes.json`` lists ``file``, ``label`` and ``box``.

    A box is [x0, y0, x1, y1] in pixels of its file, x1 and y1 exclusive.
    """
    return _HERE / "samples"

"""The maps that a file can return: one row each, from a module of its own.

A map is made either of the gradient with respect to the image, or of feature maps and theirs. To
add one: a module with its row, and the row here (docs/adding-a-file-map.md).
"""

from __future__ import annotations

from . import features, gains, gradcam, gradient, layercam, saliency
from .row import FileMap

MAPS: dict[str, FileMap] = {
    row.name: row
    for row in (
        saliency.ROW,
        gradient.ROW,
        features.ROW,
        gains.ROW,
        gradcam.ROW,
        layercam.ROW,
    )
}
"""Every map by its name, which is that of the output."""

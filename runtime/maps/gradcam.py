"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391)."""

from __future__ import annotations

import dataclasses

from .kind import FileMap


@dataclasses.dataclass(frozen=True)
class GradCAM(FileMap):
    """``relu(sum over channels of mean(d score / d features) * features)`` of the last feature map.

    The mean is over the cells.
    """

    name = "gradcam"
    help = "Grad-CAM of the last feature map"

"""LayerCAM (Jiang et al. 2021, doi 10.1109/TIP.2021.3089943)."""

from __future__ import annotations

import dataclasses

from .kind import FileMap


@dataclasses.dataclass(frozen=True)
class LayerCAM(FileMap):
    """``relu(sum over channels of relu(d score / d features) * features)`` of a late feature map.

    The exporter chooses the last one whose cells are at most 18 pixels wide.
    """

    name = "layercam"
    help = "LayerCAM of a late feature map, mostly finer than gradcam"

"""How much middle feature maps matter."""

from __future__ import annotations

import dataclasses

from .kind import FileMap


@dataclasses.dataclass(frozen=True)
class Features(FileMap):
    """Mean over channels of ``abs(d score / d features)``, of several feature maps, in 0..1.

    Coarse (14 x 14 of 224 x 224, say) and calm. The exporter chooses the feature maps.
    """

    name = "features"
    help = "how much the middle feature maps matter, coarse and calm"

"""What the score gains from each place of early feature maps."""

from __future__ import annotations

import dataclasses

from .kind import FileMap


@dataclasses.dataclass(frozen=True)
class Gains(FileMap):
    """``relu(d score / d features * (features - their mean))``, summed over channels, in 0..1.

    The mean of several early feature maps: fine (28 x 28 of 224 x 224, say), and nearly nothing
    where the classifier sees what it sees everywhere. The exporter chooses the feature maps.
    """

    name = "gains"
    help = "what the score gains from parts of the image, fine"

"""Colour maps: perceptually even, read right by the colour-blind, and drawn without matplotlib."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from ..arrays import Pixels
from ..errors import OptionError

SEQUENTIAL = ("inferno", "viridis", "cividis", "grey")
"""From dark, nothing, to light, the most; of a signed map they show the magnitude."""

DIVERGING = "blue-orange"
"""White is 0, orange what is above, blue what is below, as far to both sides."""

NAMES = (*SEQUENTIAL, DIVERGING)

_OPENCV = {
    "inferno": "COLORMAP_INFERNO",
    "viridis": "COLORMAP_VIRIDIS",
    "cividis": "COLORMAP_CIVIDIS",
}
# CIELAB lightness, green-red and blue-yellow: two ends as light, nearly as far from white, and
# blue against yellow, the difference that the common forms of colour blindness leave. The straight
# lines between them lie within sRGB.
_BLUE, _WHITE, _ORANGE = (42, 8, -50), (97, 0, 0), (42, 42, 50)
_ZERO = 128


@functools.cache
def table(name: str) -> Pixels:
    """The colours of a map, uint8 [256,3] RGB; of a diverging one 128 is 0 and 1 is the lowest.

    inferno and viridis are van der Walt's and Smith's (matplotlib 2015), cividis is Nunez, Anderton
    and Renslow's (2018, for red-green blindness), all as OpenCV has them.

    Raises:
        OptionError: there is no such map.
    """
    import cv2  # 0.2 s, and the names of colour maps are options of commands, too

    ramp = np.arange(256, dtype=np.uint8)
    if name in _OPENCV:
        colours = cv2.applyColorMap(ramp[None], getattr(cv2, _OPENCV[name]))[0, :, ::-1]
    elif name == "grey":
        colours = np.repeat(ramp[:, None], 3, axis=1)
    elif name == DIVERGING:
        place = np.maximum(np.arange(256) - _ZERO, -127)[:, None] / 127
        end = np.where(place < 0, _BLUE, _ORANGE)
        lab = np.abs(place) * end + (1 - np.abs(place)) * np.array(_WHITE)
        linear = cv2.cvtColor(lab[None].astype(np.float32), cv2.COLOR_Lab2RGB)[0]
        colours = np.rint(255 * np.clip(linear, 0, 1)).astype(np.uint8)
    else:
        raise OptionError(
            f"there is no colour map {name!r}.", f"choose one of: {', '.join(NAMES)}."
        )
    made: Pixels = np.ascontiguousarray(colours, np.uint8)
    made.flags.writeable = False
    return made


def colours(values: npt.NDArray[np.floating], name: str) -> Pixels:
    """Values as colours.

    Args:
        values: float [h,w], -1..1; what lies beyond is shown as the end. A sequential map shows
            magnitudes.
        name: of the map.

    Returns:
        uint8 [h,w,3] RGB.
    """
    import cv2

    if name == DIVERGING:
        levels = _ZERO + np.rint(127 * np.clip(values, -1, 1))
    else:
        levels = np.rint(255 * np.clip(np.abs(values), 0, 1))
    # OpenCV takes the channels as they come: RGB stays RGB.
    return cv2.applyColorMap(levels.astype(np.uint8), table(name)[:, None]).astype(
        np.uint8, copy=False
    )

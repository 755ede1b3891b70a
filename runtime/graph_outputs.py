"""What a run of a Backlit file returns."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import no_map


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of the graph for N images and K classes each; copies, the caller's own.

    Attributes:
        scores: float32 [N,classes], unnormalised.
        classes: int64 [N,K], ranks resolved to class indices.
        score: float32 [N,K].
        maps: float32 [N,K,h,w] by name, or [N,K,C,H,W] of ``gradient``; what they are stands in
            the contract.
    """

    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]
    maps: dict[str, npt.NDArray[np.float32]]

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        """A map by name.

        Raises:
            OptionError: the file does not return it.
        """
        if name in self.maps:
            return self.maps[name]
        raise no_map(name, self.maps)

    @property
    def saliency(self) -> npt.NDArray[np.float32]:
        """float32 [N,K,H,W], max over channels of abs(d score / d image).

        Raises:
            OptionError: the file returns no derivative with respect to the image.
        """
        if "gradient" in self.maps and "saliency" not in self.maps:
            return np.asarray(np.abs(self.maps["gradient"]).max(axis=2))
        return self["saliency"]


@dataclasses.dataclass(frozen=True, eq=False)
class DeviceOutputs:
    """The outputs of the graph, where it ran: what has ``__dlpack__``, of `Outputs`' shapes.

    On a GPU they are ``device.DeviceArray``, on a CPU NumPy's; the caller's own.
    """

    scores: Any
    classes: Any
    score: Any
    maps: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        """A map by name.

        Raises:
            OptionError: the file does not return it.
        """
        if name in self.maps:
            return self.maps[name]
        raise no_map(name, self.maps)

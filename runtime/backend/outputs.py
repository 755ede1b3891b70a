"""What a run of a Backlit file returns."""

from __future__ import annotations

import dataclasses
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import no_map

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True, eq=False)
class DeviceOutputs(Generic[Value]):
    """The outputs of the graph for N images and K classes each, where it ran; the caller's own.

    What has ``__dlpack__``: on a GPU ``device.DeviceArray``, on a CPU NumPy's arrays.

    Attributes:
        scores: float32 [N,classes], unnormalised.
        classes: int64 [N,K], ranks resolved to class indices.
        score: float32 [N,K].
        maps: float32 [N,K,h,w] by name, or [N,K,C,H,W] of ``gradient``; what they are stands in
            the contract.
    """

    scores: Value
    classes: Value
    score: Value
    maps: dict[str, Value]

    def __getitem__(self, name: str) -> Value:
        """A map by name.

        Raises:
            OptionError: the file does not return it.
        """
        if name in self.maps:
            return self.maps[name]
        raise no_map(name, self.maps)


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs(DeviceOutputs[npt.NDArray[Any]]):
    """The outputs of the graph as arrays on the host; copies, the caller's own."""

    @property
    def saliency(self) -> npt.NDArray[np.float32]:
        """float32 [N,K,H,W], max over channels of abs(d score / d image).

        Raises:
            OptionError: the file returns no derivative with respect to the image.
        """
        if "gradient" in self.maps and "saliency" not in self.maps:
            return np.asarray(np.abs(self.maps["gradient"]).max(axis=2))
        return self["saliency"]

"""What a map of a file is: where it comes from, and how it is emitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from ...runtime.arrays import Array
from ...runtime.contract import ImageInput
from ..autodiff.ops import Ops
from .grids import Grid

OfImage = Callable[[Ops, ir.Value], ir.Value]
"""The map, float32 [N,K,...], of d score / d image, float32 [K,N,C,H,W]."""
OfFeatures = Callable[[Ops, Grid, ir.Value], ir.Value]
"""The map, float32 [K,N,h,w], of a feature map and the gradient of the score by it [K,N,...]."""
Choice = Callable[[list[Grid], ImageInput], list[Grid]]
"""Of all feature maps, in order, those that a map is made of: one or more, of one size."""

InNumpy = Callable[[Array, Array, Array], tuple[Array, Array]]
"""The map [N,K,...], and the size of what each number is summed or scaled up of, which it rounds
by. Of features [N,1,C,h,w] (for a map of the image its values), gradients [N,K,C,h,w], and those of
tokens that lie over no cell, [N,K,C,E]."""


@dataclasses.dataclass(frozen=True)
class FileMap:
    """A row of the table; either ``of_image`` is given, or ``choose`` and ``of_features``.

    Attributes:
        name: of the map, and of the graph's output.
        definition: how it comes from derivatives of the score, for the file's metadata.
        in_numpy: the same computed by NumPy, which verification holds against what is emitted.
        of_image: how it is emitted, where it is made of the gradient with respect to the image.
        choose: which feature maps it is made of.
        of_features: how it is emitted for one of them; of several the mean is taken.
        channels: it keeps the image's axis of channels, [N,K,C,H,W].
    """

    name: str
    definition: str
    in_numpy: InNumpy
    of_image: OfImage | None = None
    choose: Choice | None = None
    of_features: OfFeatures | None = None
    channels: bool = False

    def emit(
        self,
        op: Ops,
        image: ir.Value,
        grids: Sequence[Grid],
        gradients: Mapping[ir.Value, ir.Value],
    ) -> ir.Value:
        """Append the map.

        Args:
            op: emitter.
            image: d score / d image, [K,N,C,H,W].
            grids: what ``choose`` chose; empty for a map of the image.
            gradients: by the tensors of the grids, [K,N,...].

        Returns:
            float32 [N,K,h,w], or [N,K,C,H,W] with channels.
        """
        if self.of_image is not None:
            return self.of_image(op, image)
        if self.of_features is None:
            raise ValueError(f"the map {self.name} is made of nothing")
        parts = [self.of_features(op, grid, gradients[grid.value]) for grid in grids]
        # Not op.Mean: CUDA has no kernel for it, and one node on the CPU forbids CUDA graphs.
        mean = parts[0] if len(parts) == 1 else op.Div(op.Sum(*parts), float(len(parts)))
        made: ir.Value = op.Transpose(mean, perm=[1, 0, 2, 3])
        return made

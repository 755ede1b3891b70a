"""The file under test, run on test images: everything that it returns, and what that is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import Contract
from ..graph.protos import with_outputs
from ..graph.weights import Detached, session
from ..wrap import GRADIENT, gradient_of
from .reference import Evaluator


@dataclasses.dataclass(frozen=True)
class Tap:
    """A feature map that maps are made of, and the gradients of the scores by it.

    Attributes:
        value: float64 [N, ...].
        gradient: float64 [N, K, ...].
    """

    value: Array
    gradient: Array


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the file under test returned for test images, one by one.

    Attributes:
        pixels: float64 [N, C, H, W], the graph's own image values.
        image: the same as the graph takes them.
        outputs: by name, [N, ...]: ``scores``, ``class``, ``score``, and each map.
        gradient: by the image, float64 [N, K, C, H, W]; None where the file does not go that far.
        taps: by name: the feature maps that maps are made of.
        seen: for each image: the inputs of nodes with kinks (kinks.py), by the nodes' output.
    """

    pixels: Array
    image: Array
    outputs: Mapping[str, Array]
    gradient: Array | None
    taps: Mapping[str, Tap]
    seen: tuple[Mapping[str, Array], ...] = ()

    @property
    def scores(self) -> Array:
        """float32 [N, classes]."""
        return self.outputs["scores"]

    @property
    def classes(self) -> Array:
        """int64 [N, K]."""
        return self.outputs["class"]

    @property
    def gradients(self) -> list[Array]:
        """All gradients, [N, K, ...] each: by the image, and by the feature maps."""
        own = [] if self.gradient is None else [self.gradient]
        return [*own, *(tap.gradient for tap in self.taps.values())]


class File:
    """The file under test, not optimised, so that any of its tensors can be read.

    Args:
        model: the graph.
        contract: its metadata.
        kinks: by the output of each node whose input is to be read: that input's name.
    """

    def __init__(self, model: Detached, contract: Contract, kinks: Mapping[str, str]) -> None:
        self.contract = contract
        self.maps = [made.name for made in contract.maps]
        made = {y for node in model.proto.graph.node for y in node.output}
        tensors = dict.fromkeys(t for one in contract.maps for t in one.tensors)
        self.taps = [t for t in tensors if t in made and gradient_of(t) in made]
        self.lost = [t for t in tensors if t not in self.taps]
        self.whole = GRADIENT in made
        self._kinks = {y: x for y, x in kinks.items() if x in made}
        self._names = [
            "scores", "class", "score", *self.maps, *([GRADIENT] if self.whole else []),
            *self.taps, *map(gradient_of, self.taps),
        ]  # fmt: skip
        read = list(dict.fromkeys([*self._names, *self._kinks.values()]))
        # Outputs in the middle crash ONNX Runtime 1.31 where it changes layouts (NCHWc).
        self._session = session(model.replace(with_outputs(model.proto, read)), optimise=False)

    def run(self, pixels: Array, image: Array, index: Array, seen: bool = False) -> Measured:
        """Run on images one by one, for the classes asked for, int64 [N, K].

        ``seen``: read the inputs of nodes with kinks, too.
        """
        kinks = list(self._kinks) if seen else []
        names = list(dict.fromkeys([*self._names, *(self._kinks[y] for y in kinks)]))
        runs = [
            dict(zip(names, self._session.run(names, {"image": x, "class_index": k}), strict=True))
            for x, k in zip(image[:, None], index[:, None], strict=True)
        ]

        def all_of(name: str, axis: int = 0) -> Array:
            return np.concatenate([one[name] for one in runs], axis)

        def gradients(name: str) -> Array:
            return all_of(name, 1).swapaxes(0, 1).astype(np.float64)

        return Measured(
            pixels=pixels,
            image=image,
            outputs={name: all_of(name) for name in ("scores", "class", "score", *self.maps)},
            gradient=gradients(GRADIENT) if self.whole else None,
            taps={
                t: Tap(all_of(t).astype(np.float64), gradients(gradient_of(t))) for t in self.taps
            },
            seen=tuple({y: one[self._kinks[y]] for y in kinks} for one in runs),
        )


def in_float64(
    model: Detached, contract: Contract, measured: Measured, file: File, which: Array
) -> Measured:
    """One class of each image again, the file itself computing in float64.

    ``which``, int64 [N], says which of the classes explained.

    float32 flips ReLU masks near zero, and a deep network multiplies that: PyTorch's own float32 is
    as far from its float64. In float64 a right gradient is right to many digits.
    """
    classes = np.take_along_axis(measured.classes, which[:, None], 1)
    image = measured.pixels
    if contract.image.dtype == "uint8":
        image = image.astype(np.uint8).transpose(0, 2, 3, 1)
    wanted = [*([GRADIENT] if file.whole else []), *map(gradient_of, file.taps)]
    engine = Evaluator(model.replace(with_outputs(model.proto, [*wanted, *file.taps])))
    each = [
        engine.run([*wanted, *file.taps], {"image": x, "class_index": k})
        for x, k in zip(image[:, None], classes[:, None], strict=True)
    ]  # one by one: all tensors of a run stay in memory
    by = {
        name: np.concatenate(parts, 1 if name in wanted else 0)
        for name, parts in zip([*wanted, *file.taps], zip(*each, strict=True), strict=True)
    }
    return dataclasses.replace(
        measured,
        outputs={"scores": measured.scores, "class": classes},
        gradient=by[GRADIENT].swapaxes(0, 1) if file.whole else None,
        taps={t: Tap(by[t], by[gradient_of(t)].swapaxes(0, 1)) for t in file.taps},
        seen=(),
    )

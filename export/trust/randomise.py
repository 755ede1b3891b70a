"""Does a map depend on what the classifier has learned? The parameter randomisation test.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim 2018, "Sanity Checks for Saliency Maps" (arXiv
1810.03292, section 4): the classifier's weights are re-drawn layer by layer, from the scores down
to the image (cascading) and one layer alone (independent); a map that explains the classifier must
come out differently. One that does not is a picture of the image, like an edge detector's. Guided
backpropagation, which is known to fail, is made of the same source as the control.

* A layer is a convolution or matrix product with its bias, and the scale and shift of the
  normalisation after it. Running means and variances stay: they describe the images, and what is
  re-drawn has the spread they were measured for.
* Re-drawn means: the tensor's own values in another, random order. Mean, deviation and every other
  moment stay, so that signals neither fade nor grow (rescaled Gaussians are dead behind the last
  ReLU of SqueezeNet for some images); no rule of initialisation is needed, and integers can do it.
* The verdict is of the cascade's first half. Re-drawing the upper half leaves no more than the
  filters that find edges, and nothing that knows a class. With those filters gone too, every map
  changes, even one that shows edges alone: for telling maps apart that part is worthless.
* A map passes whose mean rank correlation over that half is nearer to what two maps of different
  images have in common (its floor: the network's grid and the middle of the picture) than to 1,
  which a map has that ignores the weights.
* Where the control changes as well (SqueezeNet 1.0: 0.515, threshold 0.693; of five trained
  classifiers the only one), the test does not tell maps apart, and the report says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from ...runtime.arrays import Array
from ...runtime.contract import Contract, Relu
from ...runtime.errors import ModelError, OptionError
from ..autodiff.backward import path
from ..graph.weights import detach, session
from .rebuild import classifier, rebuilt
from .similarity import METRICS, Reference

Mode = Literal["cascading", "independent"]
Verdict = Literal["passes", "fails", "undecided"]

MODES: tuple[Mode, ...] = ("cascading", "independent")
MOST = 12
CONTROL = "guided backprop (control)"
_BATCH = 8

_WEIGHTS = {"Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1)}
_SCALES = {
    "BatchNormalization": (1, 2), "InstanceNormalization": (1, 2), "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2), "RMSNormalization": (1,),
}  # fmt: skip
# What stands between a weight and its use, in quantised and typed models.
_THROUGH = ("DequantizeLinear", "QuantizeLinear", "Cast", "Transpose", "Reshape", "Identity")


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer: the name of its tensor of results, and those of its parameters."""

    name: str
    parameters: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Sanity:
    """How alike maps are before and after.

    Attributes:
        layers: names, from the scores to the image.
        depths: how many of them were re-drawn in each step of the cascade, 0 first; the independent
            steps re-drew the last of these layers alone.
        similarity: by mode, map and metric: float64 [steps,N]; NaN where a map came out flat.
        floor: by map and metric: what the maps of different images have in common, float64 [N].
        kept: by map, float32 [steps,shown,h,w]: the cascade of the first images.
    """

    layers: tuple[str, ...]
    depths: tuple[int, ...]
    similarity: Mapping[Mode, Mapping[str, Mapping[str, Array]]]
    floor: Mapping[str, Mapping[str, Array]]
    kept: Mapping[str, Array]

    @property
    def maps(self) -> tuple[str, ...]:
        """What was compared: the file's own maps, then the control, if there is one."""
        return tuple(self.floor)

    @property
    def half(self) -> int:
        """The last step with at most half of the layers re-drawn; 1 at least."""
        return max(1, sum(2 * depth <= len(self.layers) for depth in self.depths) - 1)

    def upper(self, name: str, metric: str = "spearman") -> float:
        """A map's mean similarity over the upper half of the cascade; NaN if all are flat."""
        return mean(self.similarity["cascading"][name][metric][1 : self.half + 1])

    def threshold(self, name: str, metric: str = "spearman") -> float:
        """Half way from the map's floor to 1."""
        return (1 + mean(self.floor[name][metric])) / 2

    def flat(self, name: str) -> float:
        """The share of the maps of the upper half that came out flat."""
        values = self.similarity["cascading"][name]["spearman"][1 : self.half + 1]
        return float(np.isnan(values).mean())

    @property
    def separates(self) -> bool | None:
        """Whether the control fails; if not, that a map passes says little. None: no control."""
        return self.verdict(CONTROL) == "fails" if CONTROL in self.floor else None

    def verdict(self, name: str) -> Verdict:
        """Whether the map changed; undecided where most of what should be compared is flat."""
        if self.flat(name) > 0.5:
            return "undecided"
        return "passes" if self.upper(name) < self.threshold(name) else "fails"


def layers(graph: ir.Graph, image: ir.Value, scores: ir.Value) -> list[Layer]:
    """The layers between an image and its scores that have weights, from the image on."""
    found: list[tuple[str, list[str]]] = []
    seen: set[str] = set()
    for node in path(graph, image, scores):
        places = (_WEIGHTS | _SCALES).get(node.op_type, ())
        given = [node.inputs[i] for i in places if i < len(node.inputs)]
        names = [str(v.name) for x in given if (v := _parameter(x)) is not None]
        new = [name for name in names if name not in seen]  # a shared weight: its first layer's
        if not new:
            continue
        seen.update(new)
        if node.op_type in _WEIGHTS or not found:
            found.append((str(node.outputs[0].name), []))
        found[-1][1].extend(new)
    return [Layer(name, tuple(parameters)) for name, parameters in found]


def redraw(graph: ir.Graph, chosen: Iterable[Layer], seed: int) -> None:
    """Re-order the values of some layers' parameters; a layer's order depends on it alone."""
    for layer in chosen:
        for name in layer.parameters:
            value = graph.initializers[name]
            if value.const_value is None:
                raise ModelError(
                    f"{name!r} has no value.", "give the classifier that was exported."
                )
            old = value.const_value.numpy()
            rng = np.random.default_rng([seed, *name.encode()])
            new = np.ascontiguousarray(rng.permutation(old.reshape(-1)).reshape(old.shape))
            value.const_value = ir.Tensor(new, dtype=value.const_value.dtype, name=name)


def sanity_check(
    source: ir.Model,
    contract: Contract,
    images: Array,
    classes: npt.NDArray[np.int64],
    own: Mapping[str, Array],
    *,
    seed: int = 0,
    most: int = MOST,
    shown: int = 0,
    begin: Callable[[int], None] = lambda total: None,
    done: Callable[[], None] = lambda: None,
) -> Sanity:
    """Re-draw a classifier's weights and compare the maps of the same classes.

    Args:
        source: the classifier that the file was made of.
        contract: the file's metadata.
        images: as the file takes them, [N,...].
        classes: int64 [N], the class explained of each.
        own: the file's own maps of these: float32 [N,h,w] by name; ``saliency`` also where the file
            has ``gradient``.
        seed: of the orders drawn.
        most: steps at most; with more layers they are spread evenly over the depth.
        shown: how many images' maps to keep.
        begin: told how many graphs will be made.
        done: called after each.

    Raises:
        ModelError: the classifier has no weights that could be re-drawn.
    """
    image, scores, model = classifier(source, contract)
    found = layers(model.graph, image, scores)[::-1]
    if not found:
        raise ModelError(
            f"{contract.source.name} has no weights in Conv, ConvTranspose, Gemm or MatMul nodes.",
            "leave the source out: the sections that need the file alone are made.",
        )
    depths = spread(len(found), most)
    before: dict[str, Array] = {str(name): maps for name, maps in own.items()}
    rules: list[tuple[Relu, dict[str, str]]] = [(contract.relu, {name: name for name in own})]
    if contract.relu != "guided" and (plain := _guided(source, contract)) is not None:
        before[CONTROL] = _run(plain, images, classes, ["saliency"])["saliency"]
        rules.append(("guided", {"saliency": CONTROL}))
    references = {name: [Reference(one) for one in maps] for name, maps in before.items()}
    sets = {
        mode: [found[:depth] if mode == "cascading" else found[max(0, depth - 1) : depth]
               for depth in depths] for mode in MODES
    }  # fmt: skip
    distinct = {names(one): one for mode in MODES for one in sets[mode]}
    begin(len(distinct) * len(rules))
    measured: dict[tuple[str, ...], dict[str, dict[str, Array]]] = {}
    kept: dict[str, list[Array]] = {name: [] for name in before}
    for key, chosen in distinct.items():
        row: dict[str, dict[str, Array]] = {}
        for relu, wanted in rules:
            graph = rebuilt(
                source, contract, list(wanted), relu,
                lambda graph, *_, chosen=chosen: redraw(graph, chosen, seed),
            )  # fmt: skip
            after = _run(session(detach(graph)), images, classes, list(wanted))
            for output, name in wanted.items():
                row[name] = _alike(references[name], after[output])
                if chosen in sets["cascading"]:
                    kept[name].append(after[output][:shown])
            done()
        measured[key] = row
    similarity: dict[Mode, dict[str, dict[str, Array]]] = {
        mode: {
            name: {
                metric: np.stack([measured[names(one)][name][metric] for one in sets[mode]])
                for metric in METRICS
            }
            for name in before
        }
        for mode in MODES
    }
    others = {name: np.roll(maps, 1, axis=0) for name, maps in before.items()}
    floor: dict[str, dict[str, Array]] = {
        name: _alike(references[name], maps)
        if len(images) > 1
        else {metric: np.zeros(1) for metric in METRICS}
        for name, maps in others.items()
    }
    return Sanity(
        tuple(layer.name for layer in found), depths, similarity, floor,
        {name: np.stack(maps) for name, maps in kept.items()},
    )  # fmt: skip


def spread(count: int, most: int) -> tuple[int, ...]:
    """0, 1 and on to ``count``, at most ``most`` numbers after the 0, evenly."""
    inner = np.linspace(1, count, min(count, most)).round().astype(int).tolist()
    return (0, *dict.fromkeys(inner))


def names(chosen: Sequence[Layer]) -> tuple[str, ...]:
    """The names of some layers."""
    return tuple(layer.name for layer in chosen)


def mean(values: Array) -> float:
    """Mean of what is a number; NaN without one."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _guided(source: ir.Model, contract: Contract) -> ort.InferenceSession | None:
    """Guided backpropagation of the source; None if it has no rectifiers."""
    try:
        return session(detach(rebuilt(source, contract, ["saliency"], "guided")))
    except OptionError:
        return None


def _run(
    runs: ort.InferenceSession, images: Array, classes: Array, wanted: Sequence[str]
) -> dict[str, Array]:
    """Maps by name, float32 [N,h,w]."""
    parts = [
        runs.run(list(wanted), {"image": images[part], "class_index": classes[part, None]})
        for part in (slice(at, at + _BATCH) for at in range(0, len(images), _BATCH))
    ]
    return {
        name: np.concatenate([part[place][:, 0] for part in parts])
        for place, name in enumerate(wanted)
    }


def _alike(references: Sequence[Reference], maps: Array) -> dict[str, Array]:
    """By metric, float64 [N]."""
    rows = [one.similarity(made) for one, made in zip(references, maps, strict=True)]
    return {metric: np.array([row[metric] for row in rows]) for metric in METRICS}


def _parameter(value: ir.Value | None) -> ir.Value | None:
    """The initializer, of more than one number, that a node's input comes from."""
    while value is not None and value.const_value is None:
        node = value.producer()
        if node is None or node.op_type not in _THROUGH:
            return None
        value = node.inputs[0]
    if value is None or value.const_value is None or value.const_value.size < 2:
        return None
    return value if value.is_initializer() else None

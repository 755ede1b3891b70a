"""The metadata of a Backlit file: one JSON object under one key, shared by export and runtime.

Standard library only, so that both halves (and anyone else) can read it. docs/file-format.md
specifies the format; the dataclasses below are that specification as types, with the bounds of
each value. docs/backlit.schema.json is made of them (`schema.json_schema`), and so is the check of
every file that is opened.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from .errors import ContractError, no_map
from .guard import Mark
from .schema import json_schema, parse, problem, read, within
from .text import UNSEEN, one_line

KEY = "backlit"
ENGINE_KEY = "backlit.engine"
"""Metadata of a file whose graph is one TensorRT engine: its shapes, and what it runs on."""

MARK: Mark = re.compile(rb"\A\x08.\x12\x07backlit|\x0a[\x07\x0e]backlit(\.engine)?\x12", re.DOTALL)
"""What a Backlit file is known by: its producer, or an entry of its metadata near its end."""
SCHEMA = 2

Resize = Literal["stretch", "crop"]
Colour = Literal["RGB", "BGR", "grey", "bands"]
OUTPUTS = ("scores", "class", "score")
"""The graph's outputs before its maps."""
MOST_RANKS = 1000
"""The graph ranks this many classes at most; TensorRT's TopK ends at 3840."""
Precision = Literal["float32", "float16", "bfloat16", "float64", "int8"]
Relu = Literal["gradient", "deconvnet", "guided"]
Outcome = Literal["agrees", "disagrees", "not measured"]

MOST_SIDE = 1 << 16
"""Pixels along a side of an image."""
MOST_VALUES = 1 << 28
"""Numbers in one image, and in the frame that crops are cut from."""
Text = Annotated[str, within(maxLength=4096, without=UNSEEN)]
Side = Annotated[int, within(minimum=1, maximum=MOST_SIDE)]
Count = Annotated[int, within(minimum=1, maximum=1 << 24)]
Deviation = Annotated[float, within(minimum=0)]
Cosine = Annotated[float, within(minimum=-1.0000001, maximum=1.0000001)]
_MEAN = within(minimum=-1e6, maximum=1e6)
_STD = within(minimum=1e-6, maximum=1e6)


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """The graph input ``image`` and how a picture becomes one.

    Attributes:
        dtype: ``uint8`` (pixels 0..255, prologue in the graph) or ``float32`` (no prologue: the
            caller scales, normalises and orders the channels as ``Normalisation`` says).
        layout: ``NHWC`` for uint8, ``NCHW`` for float32.
        channels: 3, 1 for grey, or the number of bands of a multispectral image.
        height, width: pixels.
        colour: channel order the *classifier* takes. A uint8 file always takes RGB (or grey) and
            reorders inside; a float32 file must be given this order. ``bands``: any others, as
            they are.
        resize: ``stretch`` the whole image to height x width, or ``crop``: resize so that the
            shorter side is ``round(size / crop_fraction)``, then cut the centre.
        crop_fraction: see ``resize``; 0.875 is the usual 224 of 256.
        interpolation: ``bilinear`` or ``bicubic``, antialiased as Pillow does.
    """

    dtype: Literal["uint8", "float32"]
    layout: Literal["NHWC", "NCHW"]
    ALSO: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"properties": {"dtype": {"const": "uint8"}, "layout": {"const": "NHWC"}}},
            {"properties": {"dtype": {"const": "float32"}, "layout": {"const": "NCHW"}}},
        ]
    }

    channels: Side
    height: Side
    width: Side
    colour: Colour = "RGB"
    resize: Resize = "stretch"
    crop_fraction: Annotated[float, within(minimum=0.1, maximum=1)] = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def frame(self) -> tuple[int, int]:
        """Height and width that a picture is brought to before crops are cut from it."""
        fraction = self.crop_fraction
        return (
            max(self.height, round(self.height / fraction)),
            max(self.width, round(self.width / fraction)),
        )


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """What the classifier takes: ``(pixel * scale - mean) / std`` per channel.

    Attributes:
        range: pixels are scaled from 0..255 to ``0-1`` or left ``0-255`` before mean and std.
        mean, std: one number per channel, in the channel order the classifier takes.
        assumed: nobody said so; the values are the neutral default (mean 0, std 1).
    """

    range: Literal["0-1", "0-255"] = "0-1"
    mean: Annotated[tuple[Annotated[float, _MEAN], ...], within(minItems=1)] = (0.0, 0.0, 0.0)
    std: Annotated[tuple[Annotated[float, _STD], ...], within(minItems=1)] = (1.0, 1.0, 1.0)
    assumed: bool = False

    def affine(self) -> tuple[list[float], list[float]]:
        """Scale and shift per channel: the classifier takes ``pixel * scale + shift``."""
        unit = 1 / 255 if self.range == "0-1" else 1.0
        shift = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        return [unit / std for std in self.std], shift


@dataclasses.dataclass(frozen=True)
class Score:
    """Which score is differentiated.

    Attributes:
        classes: number of classes.
        tensor: name of the tensor in the source graph.
        left_out: operators after it that are left out of score and gradient (``Softmax``).
        box_axis: which axis of the tensor is that of a detector's boxes, 1 or 2: the score of a
            class is the maximum along it; None: the tensor has one number per class.
        candidates: the tensors among which it was chosen, in words, the chosen one first; empty
            where there was no choice.
        objectness: where along the tensor's last axis but ``box_axis`` a box's own score lies, with
            those of its classes after it; the score of a class is then the largest product of the
            two. None: boxes have no score of their own.
    """

    classes: Count
    tensor: Text
    left_out: tuple[Text, ...] = ()
    box_axis: Annotated[int, within(minimum=1, maximum=2)] | None = None
    candidates: tuple[Text, ...] = ()
    objectness: Annotated[int, within(minimum=0, maximum=1 << 24)] | None = None

    @property
    def independent(self) -> bool:
        """Whether each class has a probability of its own, the sigmoid of its score."""
        return self.classes == 1 or any("Sigmoid" in operator for operator in self.left_out)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the classifier came from.

    Attributes:
        name: file name, or the source as it was asked for.
        sha256: of its file or weights.
        exporter: which of PyTorch's exporters made the ONNX model; None where it was ONNX already.
    """

    name: Text
    sha256: Annotated[str, within(pattern="^[0-9a-f]{64}$", maxLength=64)]
    exporter: Text | None = None


@dataclasses.dataclass(frozen=True)
class OutputCheck:
    """One output of the file beside what it should be.

    Attributes:
        name: of the output.
        error: how far it is off: for ``class`` the share of wrong classes, else a relative
            distance; None where it is no number.
        allowed: the most that passes.
    """

    name: Text
    error: Deviation | None
    allowed: Deviation

    @property
    def passes(self) -> bool:
        """Whether the output is what it should be."""
        return self.error is not None and self.error <= self.allowed


@dataclasses.dataclass(frozen=True)
class Verification:
    """How the file was checked at export, and what came out.

    Attributes:
        reference: ``torch.autograd`` or ``finite differences, float64``; where ``relu`` is not the
            gradient, differences of the classifier with its ReLUs held to the slopes of the rule.
        cosine: cosine between Backlit's gradients and the reference's (1.0 is perfect); None where
            nothing was measured.
        relative_l2: ``||ours - reference|| / ||reference||``; None where nothing was measured.
        samples: gradients (autograd) or directions (finite differences) compared.
        scores_relative: largest difference of the scores, over the largest score magnitude; None
            where a score is no number.
        exact: relative L2 of the file's own gradient computed in float64, one image and class;
            measured where ``relative_l2`` is too large, to tell rounding from a wrong gradient.
        rounding: how far this network's maps move where ONNX Runtime rounds them otherwise:
            relative L2 of the file optimised and not.
        outputs: each output of the file.
        outcome: ``agrees``; ``disagrees``; ``not measured``: nothing can be said, and why.
        because: why it does not agree.
    """

    reference: Text
    cosine: Cosine | None
    relative_l2: Deviation | None
    samples: Annotated[int, within(minimum=0, maximum=1 << 24)]
    scores_relative: Deviation | None
    exact: Deviation | None = None
    rounding: Deviation | None = None
    outputs: tuple[OutputCheck, ...] = ()
    outcome: Outcome = "agrees"
    because: tuple[Text, ...] = ()


@dataclasses.dataclass(frozen=True)
class Map:
    """A graph output that says where the classifier looked, for N images and K classes.

    Attributes:
        name: of the output. ``gradient`` is float32 [N,K,C,height,width], the others are float32
            [N,K,height,width]: ``saliency`` in pixels of the image, the rest coarser.
        height, width: its grid, spread evenly over the image.
        definition: how it comes from the derivatives of the score.
        tensors: names, in the source graph, of the feature maps it is made of; empty: the image.
    """

    name: Annotated[Text, within(minLength=1)]
    height: Side
    width: Side
    definition: Text
    tensors: tuple[Text, ...] = ()


@dataclasses.dataclass(frozen=True)
class Contract:
    """Everything the runtime must know about a file, and where the file came from.

    Inputs and outputs have the types of the interface (float32, uint8, int64) whatever
    ``precision`` says: that is what the file computes in, or as much of it as can be.

    Attributes:
        tool: writer and version, ``backlit 0.1.0``.
        maps: one for each map, in the order of the outputs.
        relu: the backward rule of ReLU.
        precision: what the file computes in, as far as it can. Inputs and outputs keep their types
            whatever it says.
        labels: one for each class, or null.
        verification: how the gradient was checked at export; null where that was skipped.
        schema: the number of this format.
    """

    tool: Annotated[Text, within(pattern=r"^\S+ \S+$")]
    source: Source
    image: ImageInput
    normalisation: Normalisation
    score: Score
    maps: Annotated[tuple[Map, ...], within(minItems=1, maxItems=100)]
    relu: Relu = "gradient"
    precision: Precision = "float32"
    labels: tuple[Text, ...] | None = dataclasses.field(default=None, repr=False)
    verification: Verification | None = None
    schema: Annotated[int, within(const=SCHEMA)] = SCHEMA

    def map(self, name: str) -> Map | None:
        """The map of that name; None if the file has none."""
        return next((found for found in self.maps if found.name == name), None)

    def keeping(self, names: Collection[str]) -> Contract:
        """The metadata of the file with those maps alone.

        Raises:
            OptionError: it has no map of such a name.
        """
        has = [made.name for made in self.maps]
        for name in sorted(set(names).difference(has)):
            raise no_map(name, has)
        maps = tuple(made for made in self.maps if made.name in names)
        return dataclasses.replace(self, maps=maps)

    def mean_pixel(self) -> list[float]:
        """The pixel that the normalisation takes to zero: RGB or grey, 0..255 as a rule."""
        scale, shift = self.normalisation.affine()
        pixel = [-b / a for a, b in zip(scale, shift, strict=True)]
        return pixel[::-1] if self.image.colour == "BGR" else pixel

    def wrong(self) -> str | None:
        """What `from_json` would refuse of it, in words; None: nothing."""
        try:
            data = parse(json.dumps(dataclasses.asdict(self)))
        except ValueError as error:  # a number that JSON does not have
            return str(error)
        return problem(json_schema(Contract), data) or _contradiction(self)

    def to_json(self) -> str:
        """The metadata value: a JSON object, keys in the order of the fields above.

        Raises:
            ContractError: ``from_json`` would refuse it.
        """
        if (wrong := self.wrong()) is not None:
            raise damaged("the new file", wrong)
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str | None, where: str = "the file") -> Contract:
        """Read the metadata value.

        Args:
            text: the value stored under ``KEY``; None if the key is absent.
            where: the file's name, for errors.

        Raises:
            ContractError: no metadata, not JSON, of another schema, or not as the schema says.
        """
        if text is None:
            raise ContractError(
                f"{where} is an ONNX file but not a Backlit file: it has no {KEY!r} metadata.",
                f"export it first: backlit export {where} -o model.backlit.onnx",
            )
        try:
            data = parse(text)
        except ValueError as error:
            raise damaged(where, f"{error}") from error
        said = data.get("schema") if isinstance(data, dict) else None
        if type(said) is int and said != SCHEMA:
            raise ContractError(
                f"{where} has metadata schema {said}; this version reads schema {SCHEMA}. "
                f"It was written by {one_line(str(data.get('tool', 'an unknown version')))[:80]}.",
                "install the version of backlit that wrote the file, or export the model again.",
            )
        wrong = problem(json_schema(Contract), data)
        if wrong is None:
            contract: Contract = read(Contract, data)
            wrong = _contradiction(contract)
            if wrong is None:
                return contract
        raise damaged(where, wrong)


def damaged(where: str, why: str) -> ContractError:
    """The error for metadata that cannot be right."""
    return ContractError(
        f"{where}: the {KEY!r} metadata is damaged: {why}.", "export the model again."
    )


def _contradiction(contract: Contract) -> str | None:
    """What fields say against each other, which the JSON Schema cannot know; None if nothing."""
    image, rule, score = contract.image, contract.normalisation, contract.score
    names = [made.name for made in contract.maps]
    channels = {"RGB": 3, "BGR": 3, "grey": 1}.get(image.colour, image.channels)
    height, width = image.frame()
    if height * width * image.channels > MOST_VALUES:
        return f"pictures are brought to {height} x {width} pixels, which are too many"
    if channels != image.channels:
        return f"an image of {image.channels} channels is not {image.colour}"
    for name, values in (("mean", rule.mean), ("std", rule.std)):
        if len(values) != image.channels:
            return f"normalisation.{name} has {len(values)} numbers for {image.channels} channels"
    if contract.labels is not None and len(contract.labels) != score.classes:
        return f"there are {len(contract.labels)} labels for {score.classes} classes"
    if len({*names, *OUTPUTS}) < len(names) + len(OUTPUTS):
        return f"two outputs have one name, among {', '.join((*OUTPUTS, *names))}"
    for made in contract.maps:
        if made.name in ("saliency", "gradient"):
            if (made.height, made.width) != (image.height, image.width):
                return f"{made.name} is {made.height} x {made.width}, unlike the image"
        elif made.height * made.width > image.height * image.width:
            return f"{made.name} is {made.height} x {made.width}, larger than the image"
    return None

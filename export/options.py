"""What an export may be told: one frozen object, checked when it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypedDict, get_args

from ..runtime.contract import Relu
from ..runtime.errors import OptionError
from .graph.rewrites import Target, chosen
from .maps.table import MAPS

Half = Literal["fp16", "mixed", "bf16"]
Range = Literal["0-1", "0-255"]
Resize = Literal["stretch", "crop"]
Input = Literal["uint8", "float32"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of ``export``, which takes each as a keyword.

    Examples:
        >>> import backlit
        >>> try:
        ...     backlit.ExportOptions(range="0-9")
        ... except backlit.OptionError as error:
        ...     print(error.problem)
        range='0-9' is no choice.

    Attributes:
        size: pixels, height and width or one number for both; None: the model's own.
        channels: how many an image has, where the model leaves it open; None: 3, or what its first
            convolution takes. A file of other than 1 or 3 takes arrays, and no picture files.
        constants: values for the other inputs of an ONNX model, by name; one number fills a shape.
        mean: one number for each channel, or one for all, in the order that the classifier takes;
            None: the source's own, else 0.
        std: likewise; None: the source's own, else 1.
        range: what pixels are scaled to before mean and std, ``0-1`` or ``0-255``; None: the
            source's own, else ``0-1``.
        bgr: the classifier takes BGR.
        resize: how a picture of another size becomes the input: ``stretch`` shows the whole of it,
            ``crop`` its centre.
        labels: one name per class; None: the source's own.
        input: ``uint8``: pixels, normalised in the graph; ``float32``: what the classifier takes.
        maps: the maps that the file returns, one or several of `MAPS`: ``saliency`` [N,K,H,W], the
            paper's; ``gradient`` [N,K,C,H,W], unreduced; ``features``, ``gains``, ``gradcam``,
            ``layercam`` [N,K,h,w], made of feature maps. Without the first two nothing is computed
            back to the pixels.
        output_name: the tensor that holds the scores, an output of the model or one inside it;
            None: what evidence speaks for, and an error where it speaks for several.
        relu: the backward rule of rectifiers: ``gradient``, the true one; ``deconvnet`` and
            ``guided``, for pictures.
        weights: a torch state dict for torch sources.
        precision: ``fp16`` computes all in float16, for GPUs; ``mixed``, or ``bf16`` in bfloat16,
            what can be without switching ReLU masks, the backward pass above all. Inputs and
            outputs stay float32. None: as the classifier.
        target: the engine whose favourite operators are used, ``portable`` or ``openvino``; every
            engine runs every file.
        without: names of rewrites for speed to leave out, as ``backlit export -h`` lists them.
        verify: compare what the file returns with torch.autograd or finite differences.
        keep_failed: where that fails, leave the file and a report of it beside ``path``, as
            ``NAME.failed.onnx`` and ``NAME.failed.json``.

    Raises:
        OptionError: a value that no model could have.
    """

    size: int | tuple[int, int] | None = None
    channels: int | None = None
    constants: Mapping[str, Any] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    range: Range | None = None
    bgr: bool = False
    resize: Resize = "stretch"
    labels: Sequence[str] | None = None
    input: Input = "uint8"
    maps: str | Sequence[str] = ("saliency", "features", "gains")
    output_name: str | None = None
    relu: Relu = "gradient"
    weights: str | None = None
    precision: Half | None = None
    target: Target = "portable"
    without: Collection[str] = ()
    verify: bool = True
    keep_failed: bool = False

    def __post_init__(self) -> None:
        known_relu(self.relu)
        chosen(self.target, self.without)
        for field in dataclasses.fields(self):
            _check_choice(field.name, getattr(self, field.name))
        if self.channels is not None and self.channels < 1:
            raise OptionError(f"channels={self.channels}: an image has 1 or more.", "give 3, say.")
        if self.keep_failed and not self.verify:
            raise OptionError(
                "there is no failed verification to keep where nothing is verified.",
                "leave --keep-failed out, or --no-verify.",
            )
        names = self.map_names
        unknown = [name for name in names if name not in MAPS]
        if unknown or not names or len(set(names)) < len(names):
            raise OptionError(
                f"maps={', '.join(map(str, names)) or 'nothing'}: not a list of different maps.",
                f"choose among {', '.join(MAPS)}.",
            )

    @property
    def map_names(self) -> tuple[str, ...]:
        """``maps`` as a tuple."""
        return (self.maps,) if isinstance(self.maps, str) else tuple(self.maps)

    @property
    def height_width(self) -> tuple[int, int] | None:
        """``size`` as height and width."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def rewrites(self) -> frozenset[str]:
        """Names of the rewrites wanted.

        The slope of a step is beyond float16, so there masks are comparisons.
        """
        wanted = chosen(self.target, self.without)
        return wanted - {"step-masks"} if self.precision == "fp16" else wanted


class Keywords(TypedDict, total=False):
    """The fields of `ExportOptions` as keywords, for type checkers."""

    size: int | tuple[int, int] | None
    channels: int | None
    constants: Mapping[str, Any] | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    range: Range | None
    bgr: bool
    resize: Resize
    labels: Sequence[str] | None
    input: Input
    maps: str | Sequence[str]
    output_name: str | None
    relu: Relu
    weights: str | None
    precision: Half | None
    target: Target
    without: Collection[str]
    verify: bool
    keep_failed: bool


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "range": (None, *get_args(Range)),
    "resize": get_args(Resize),
    "input": get_args(Input),
    "precision": (None, *get_args(Half)),
}


def _check_choice(name: str, value: object) -> None:
    choices = _CHOICES.get(name)
    if choices is not None and value not in choices:
        named = [repr(choice) for choice in choices]
        raise OptionError(f"{name}={value!r} is no choice.", f"choose among {', '.join(named)}.")


def known_relu(relu: str) -> None:
    """Refuse a rule of ReLU that there is not.

    Raises:
        OptionError: names those that there are.
    """
    if relu not in (rules := get_args(Relu)):
        raise OptionError(f"there is no ReLU rule {relu!r}.", f"choose among {', '.join(rules)}.")

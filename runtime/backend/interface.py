"""The graph of a Backlit file in ONNX Runtime: its metadata, its shapes, and IO binding."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract import KEY, MOST_RANKS, Contract, ImageInput, Map, damaged
from ..errors import ClassError, ModelError

Shape = tuple[int, int]
"""Images N and classes K of a run."""
Spec = tuple[tuple[int, ...], type[np.generic]]
"""Dimensions and type of a tensor."""


@dataclasses.dataclass(frozen=True)
class Tensors:
    """The graph's inputs, and its outputs in the order of results, in one shape."""

    inputs: dict[str, Spec]
    outputs: dict[str, Spec]


def tensors(contract: Contract, shape: Shape) -> Tensors:
    """Dimensions and types of a file's inputs and outputs for N images and K classes."""
    n, k = shape
    spec = contract.image
    size = (spec.channels, spec.height, spec.width)
    image = (n, spec.height, spec.width, spec.channels) if spec.layout == "NHWC" else (n, *size)
    return Tensors(
        inputs={"image": (image, np.dtype(spec.dtype).type), "class_index": ((n, k), np.int64)},
        outputs={
            "scores": ((n, contract.score.classes), np.float32),
            "class": ((n, k), np.int64),
            "score": ((n, k), np.float32),
            **{made.name: ((n, k, *_dims(made, spec)), np.float32) for made in contract.maps},
        },
    )


def read_metadata(session: Any, where: str, kept: Collection[str] | None = None) -> Contract:
    """The metadata of a session of ONNX Runtime, checked against the graph.

    Args:
        session: of ONNX Runtime.
        where: the file, for errors.
        kept: names of the maps that were left in the graph; None: all.

    Raises:
        ContractError: no Backlit metadata, damaged, or of another schema.
        ModelError: the graph has other inputs or outputs than the metadata says.
    """
    try:
        properties = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise damaged(where, "it is not UTF-8") from error
    contract = Contract.from_json(properties.get(KEY), where)
    if kept is not None:
        contract = contract.keeping(kept)
    spec = contract.image
    size: tuple[int, ...] = (spec.channels, spec.height, spec.width)
    pixels = (spec.height, spec.width, spec.channels) if spec.layout == "NHWC" else size
    floats, whole = "tensor(float)", "tensor(int64)"
    kind = "tensor(uint8)" if spec.dtype == "uint8" else floats
    expected: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "image": (kind, (None, *pixels)),
        "class_index": (whole, (None, None)),
        "scores": (floats, (None, contract.score.classes)),
        "class": (whole, (None, None)),
        "score": (floats, (None, None)),
        **{made.name: (floats, (None, None, *_dims(made, spec))) for made in contract.maps},
    }
    found = {value.name: value for value in [*session.get_inputs(), *session.get_outputs()]}
    for name, (dtype, dims) in expected.items():
        value = found.get(name)
        has = "nothing of that name" if value is None else f"{value.type} {value.shape}"
        if value is None or value.type != dtype or not _fits(value.shape, dims):
            raise ModelError(
                f"{where}: its metadata says {name!r} is {dtype} {dims_text(dims[1:])}, "
                f"but the graph has {has}.",
                "the file was changed after its export: export the model again.",
            )
    return contract


def check_class(index: int, contract: Contract) -> int:
    """A class index, or a negative rank, that the graph takes.

    Raises:
        ClassError: it is out of range.
    """
    count = contract.score.classes
    if -min(count, MOST_RANKS) <= index < count:
        return index
    raise ClassError(
        f"class {index} is out of range: the file has classes 0 to {count - 1}.",
        f"choose one of them, or a rank from -1 (the best) to -{min(count, MOST_RANKS)}.",
    )


def _dims(made: Map, spec: ImageInput) -> tuple[int, ...]:
    """The shape of a map after N and K."""
    grid = made.height, made.width
    return (spec.channels, *grid) if made.name == "gradient" else grid


def _fits(shape: Sequence[int | str | None], dims: Sequence[int | None]) -> bool:
    # A shape that ONNX Runtime could not infer is not known, so not wrong.
    return not shape or (
        len(shape) == len(dims)
        and all(
            not isinstance(have, int) or want is None or have == want
            for have, want in zip(shape, dims, strict=True)
        )
    )


def dims_text(dims: Iterable[int | None]) -> str:
    """``[N,8,6,3]``: a shape after its first dimension, with K for what is dynamic."""
    return "[N," + ",".join("K" if dim is None else str(dim) for dim in dims) + "]"


def normalise(images: npt.NDArray[np.uint8], contract: Contract) -> npt.NDArray[np.float32]:
    """uint8 [N,H,W,C], RGB or grey -> float32 [N,C,H,W] as the classifier takes it."""
    rule = contract.normalisation
    ordered = images[..., ::-1] if contract.image.colour == "BGR" else images
    scale = np.float32(1 / 255 if rule.range == "0-1" else 1.0)
    mean, std = np.array(rule.mean, np.float32), np.array(rule.std, np.float32)
    values = (ordered.astype(np.float32) * scale - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)

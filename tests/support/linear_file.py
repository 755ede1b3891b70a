"""A Backlit file made by hand: a linear classifier, whose gradient is known in closed form.

``scores = weight . normalised pixels + bias``, so the gradient of score c with respect to the
pixels is ``weight[c]`` times the derivative of the prologue, for every image.
"""

import dataclasses
import os
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from backlit.runtime.contract import (
    KEY,
    Colour,
    Contract,
    ImageInput,
    Map,
    Normalisation,
    Resize,
    Score,
    Source,
)
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Linear:
    path: Path
    contract: Contract
    weight: Floats  # [classes,C,H,W], channels in the order the classifier takes
    bias: Floats  # [classes]

    def normalised(self, images: Pixels) -> Floats:
        """uint8 [N,H,W,C] RGB or grey -> float32 [N,C,H,W] as the classifier takes it."""
        n, colour = self.contract.normalisation, self.contract.image.colour
        pixels = images[..., ::-1] if colour == "BGR" else images
        scale = 1 / 255 if n.range == "0-1" else 1.0
        x = (pixels.astype(np.float64) * scale - np.array(n.mean)) / np.array(n.std)
        planes: Floats = x.transpose(0, 3, 1, 2).astype(np.float32)
        return planes

    def scores(self, images: Pixels) -> Doubles:
        """uint8 [N,H,W,C] -> float64 [N,classes]."""
        x = self.normalised(images).astype(np.float64)
        scores: Doubles = np.einsum("nchw,kchw->nk", x, self.weight.astype(np.float64)) + self.bias
        return scores

    def gradient(self) -> Doubles:
        """Derivative of the scores by the graph's own image values: [classes,C,H,W]."""
        if self.contract.image.dtype == "float32":
            return self.weight.astype(np.float64)
        n, colour = self.contract.normalisation, self.contract.image.colour
        scale = 1 / 255 if n.range == "0-1" else 1.0
        slope = scale / np.array(n.std, np.float64)
        gradient: Doubles = self.weight * slope[None, :, None, None]
        return gradient[:, ::-1] if colour == "BGR" else gradient

    def saliency(self) -> Doubles:
        """Max over channels of abs: [classes,H,W]."""
        saliency: Doubles = np.abs(self.gradient()).max(1)
        return saliency


def write_linear_file(
    path: str | os.PathLike[str],
    classes: int = 5,
    height: int = 8,
    width: int = 6,
    channels: int = 3,
    output: str = "saliency",
    dtype: Literal["uint8", "float32"] = "uint8",
    colour: Colour | None = None,
    labels: tuple[str, ...] | None = None,
    resize: Resize = "stretch",
    crop_fraction: float = 0.875,
    normalisation: Normalisation | None = None,
    weight: Floats | None = None,
    seed: int = 0,
    metadata: str | Literal[False] | None = None,
) -> Linear:
    """Write the file and return what is known about it.

    Args:
        metadata: replaces the JSON text; False: the file has none.
    """
    rng = np.random.default_rng(seed)
    if weight is None:
        weight = rng.standard_normal((classes, channels, height, width)).astype(np.float32)
    bias = rng.standard_normal(classes).astype(np.float32)
    colour = colour or ("RGB" if channels == 3 else "grey")
    contract = Contract(
        tool="test 0",
        source=Source("linear", "0" * 64),
        image=ImageInput(
            dtype=dtype,
            layout="NHWC" if dtype == "uint8" else "NCHW",
            channels=channels,
            height=height,
            width=width,
            colour=colour,
            resize=resize,
            crop_fraction=crop_fraction,
        ),
        normalisation=normalisation
        or Normalisation(
            mean=(0.5, 0.4, 0.3)[:channels], std=(0.2, 0.25, 0.3)[:channels], range="0-1"
        ),
        score=Score(classes=classes, tensor="scores"),
        maps=(Map(output, height, width, "of the test"),),
        labels=labels,
    )
    linear = Linear(Path(path), contract, weight, bias)
    _save(linear, path, contract.to_json() if metadata is None else metadata)
    return linear


def _save(linear: Linear, path: str | os.PathLike[str], metadata: str | Literal[False]) -> None:
    spec, n = linear.contract.image, linear.contract.normalisation
    constants: list[TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: npt.ArrayLike) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: int | list[int]) -> str:
        made = helper.make_node(op, inputs, [output])
        made.attribute.extend(helper.make_attribute(*one) for one in attributes.items())
        nodes.append(made)
        return output

    classes, size = len(linear.bias), (spec.channels, spec.height, spec.width)
    shape: list[str | int] = ["N", *size]
    kind = TensorProto.FLOAT
    if spec.dtype == "uint8":
        shape, kind = ["N", spec.height, spec.width, spec.channels], TensorProto.UINT8
        x = node("Cast", ["image"], "pixels", to=TensorProto.FLOAT)
        if spec.colour == "BGR":
            order = constant("order", np.array([2, 1, 0], np.int64))
            x = node("Gather", [x, order], "reordered", axis=3)
        scale = 1 / 255 if n.range == "0-1" else 1.0
        x = node("Mul", [x, constant("scale", np.float32(scale))], "scaled")
        x = node("Sub", [x, constant("mean", np.array(n.mean, np.float32))], "centred")
        x = node("Div", [x, constant("std", np.array(n.std, np.float32))], "normal")
        x = node("Transpose", [x], "planes", perm=[0, 3, 1, 2])
    else:
        x = "image"
    x = node("Flatten", [x], "flat", axis=1)
    weight = constant("weight", linear.weight.reshape(classes, -1))
    node("Gemm", [x, weight, constant("bias", linear.bias)], "scores", transB=1)

    # -1 is the top-scoring class, -2 the second, ...
    ranked = helper.make_node(
        "TopK",
        ["scores", constant("k", np.array([min(classes, 1000)], np.int64))],
        ["ranked_scores", "ranking"],
    )
    nodes.append(ranked)
    negative = node("Less", ["class_index", constant("zero", np.int64(0))], "negative")
    rank = node("Sub", [constant("minus_one", np.int64(-1)), "class_index"], "rank")
    rank = node("Max", [rank, "zero"], "valid_rank")
    by_rank = node("GatherElements", ["ranking", rank], "by_rank", axis=1)
    node("Where", [negative, by_rank, "class_index"], "class")
    node("GatherElements", ["scores", "class"], "score", axis=1)
    if linear.contract.maps[0].name == "saliency":
        table = constant("table", linear.saliency().astype(np.float32))
        out: list[str | int] = ["N", "K", spec.height, spec.width]
    else:
        table = constant("table", linear.gradient().astype(np.float32))
        out = ["N", "K", *size]
    node("Gather", [table, "class"], linear.contract.maps[0].name, axis=0)
    f, i = TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "linear",
        [
            helper.make_tensor_value_info("image", kind, shape),
            helper.make_tensor_value_info("class_index", i, ["N", "K"]),
        ],
        [
            helper.make_tensor_value_info("scores", f, ["N", classes]),
            helper.make_tensor_value_info("class", i, ["N", "K"]),
            helper.make_tensor_value_info("score", f, ["N", "K"]),
            helper.make_tensor_value_info(linear.contract.maps[0].name, f, out),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if isinstance(metadata, str):
        helper.set_model_props(model, {KEY: metadata})
    onnx.checker.check_model(model)
    onnx.save(model, path)

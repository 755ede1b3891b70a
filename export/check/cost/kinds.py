"""The kinds of kernels that ONNX Runtime's CUDA provider launches, and how fast each is.

The rates are fitted to the kernels of resnet50, mobilenet_v2 and vit_b_16 on one H100 (80 GB, ONNX
Runtime 1.31, half precision, batch 64; docs/measured/cost.md). A kernel takes the longest of what
its bytes, its elements and its operations take, after a launch.
"""

from __future__ import annotations

import dataclasses
import math

LAUNCH = 2e-6
"""Seconds that lie between two kernels."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """Kernels that are alike.

    Attributes:
        what: in words.
        bandwidth: bytes per second, read and written.
        elements: elements written per second, where that is the bound.
        half, single: operations per second on float16, and on float32 rounded to TF32.
        advice: what to do where most of the time goes there.
    """

    what: str
    bandwidth: float
    advice: str
    elements: float = math.inf
    half: float = math.inf
    single: float = math.inf

    def seconds(self, moved: float, elements: float, operations: float, width: int) -> float:
        """The time of one kernel.

        Args:
            moved: bytes read and written.
            elements: elements written.
            operations: multiplications and additions.
            width: bytes of a factor: 2 for float16.
        """
        rate = self.half if width == 2 else self.single
        return LAUNCH + max(moved / self.bandwidth, elements / self.elements, operations / rate)


KINDS = {
    "product": Kind(
        "matrix products and convolutions", 1.6e12,
        "this is the network's own work; --precision fp16 halves it.",
        half=6.0e14, single=2.5e14,
    ),
    "odd product": Kind(
        "products of rows that do not begin at multiples of 16 bytes", 1.05e12,
        "lengths that are multiples of 8 would use tensor cores in full; attention over 197 tokens "
        "does not.",
        half=4.2e13, single=4.2e13,
    ),
    "strided product": Kind(
        "ConvTranspose with a stride", 1.0e12,
        "the gradient of a convolution with a stride, which cuDNN is slower at.",
        half=1.1e14, single=5e13,
    ),
    "depthwise": Kind(
        "convolutions with a group for each channel", 6.8e11,
        "bound by memory; --precision fp16 halves the bytes.",
    ),
    "layout": Kind(
        "NCHW to NHWC and back around a convolution", 2.2e12,
        "cuDNN's tensor cores want NHWC; TensorRT (--providers tensorrt) keeps it throughout.",
    ),
    "bias": Kind(
        "the bias of a convolution, a kernel of its own", 2.13e12,
        "TensorRT adds it within the convolution.",
    ),
    "elementwise": Kind(
        "elementwise arithmetic on tensors of one shape", 2.95e12,
        "TensorRT joins such chains into one kernel; --precision fp16 halves the bytes.",
    ),
    "broadcast": Kind(
        "elementwise arithmetic on tensors of different shapes", 2.3e12,
        "as for elementwise arithmetic.",
    ),
    "mask": Kind(
        "masks of rectifiers and of max-pooling", 2.95e12,
        "--precision fp16 compares half the bytes and keeps one byte per element.",
    ),
    "cast": Kind(
        "casts between float32 and float16", 2.9e12,
        "--precision fp16 needs hardly any; --precision mixed has them around what stays float32.",
    ),
    "gelu": Kind(
        "GELU", 2.95e12, "bound by its arithmetic.", elements=3.3e11,
    ),
    "reduction": Kind(
        "sums, means, maxima, softmax, normalisation", 1.8e12,
        "--precision fp16 halves the bytes.",
    ),
    "move": Kind(
        "transposes, slices, concatenations, copies", 2.9e12,
        "moves that change nothing: fewer reshaped heads, or TensorRT.",
    ),
    "pad": Kind(
        "Pad along other axes than height and width", 2.9e12,
        "ONNX Runtime's general Pad is slow (8e9 elements a second): export again with this "
        "version of Backlit, or replace it in the classifier.",
        elements=8.5e9,
    ),
    "pool": Kind("pooling", 1.4e12, "the pooling itself and the windows of its gradient."),
    "other": Kind("other operators", 1.5e12, "see which with --json."),
}  # fmt: skip
"""Name -> kind."""

__all__ = ["KINDS", "LAUNCH", "Kind"]

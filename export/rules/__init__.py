"""Backward rules, one short function per operator; importing this package registers them all."""

from .. import relu
from . import (
    activation,
    arithmetic,
    convolution,
    elementwise,
    indexing,
    normalisation,
    pooling,
    product,
    quantised,
    recurrent,
    reduction,
    resize,
    shape,
    trigonometric,
)

__all__ = [
    "activation",
    "arithmetic",
    "convolution",
    "elementwise",
    "indexing",
    "normalisation",
    "pooling",
    "product",
    "quantised",
    "recurrent",
    "reduction",
    "relu",
    "resize",
    "shape",
    "trigonometric",
]

"""Backward rules, one short function per operator; importing this package registers them all."""

from .. import relu
from . import elementwise, linear, normalisation, pooling, reduction, shape

__all__ = ["elementwise", "linear", "normalisation", "pooling", "reduction", "relu", "shape"]

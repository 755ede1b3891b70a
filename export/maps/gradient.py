"""``gradient``: the derivative itself, with its signs and channels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ..autodiff.ops import Ops
from .row import FileMap


def _as_it_is(op: Ops, g: ir.Value) -> ir.Value:
    made: ir.Value = op.Transpose(g, perm=[1, 0, 2, 3, 4])
    return made


def _in_numpy(image: Array, gradient: Array, _: Array) -> tuple[Array, Array]:
    return gradient, np.abs(gradient)


ROW = FileMap("gradient", "d score / d image", _in_numpy, of_image=_as_it_is, channels=True)

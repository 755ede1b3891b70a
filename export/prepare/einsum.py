"""Einsum in the letters that every engine reads."""

from __future__ import annotations

import string

import onnx_ir as ir

from ..graph.values import attribute


def plain_equation(node: ir.Node) -> None:
    """Write an Einsum with small letters and no spaces, all that TensorRT reads."""
    equation = attribute(node, "equation").replace(" ", "")
    letters = dict.fromkeys(c for c in equation if c.isalpha())
    if not equation.islower() and len(letters) < 26:
        plain = dict(zip(letters, string.ascii_lowercase, strict=False))
        if "->" not in equation:  # the result's indices are in the order of the alphabet
            plain = dict(zip(sorted(letters), string.ascii_lowercase, strict=False))
        equation = "".join(plain.get(c, c) for c in equation)
    node.attributes["equation"] = ir.AttrString("equation", equation)

"""ReLU and what rectifies like it, as the walk back meets them, and the rule that they follow."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import onnx_ir as ir

from ...runtime.contract import Relu
from ...runtime.errors import OptionError


class Rectifier(NamedTuple):
    """A rectifier met on the way back: its node, its input x and the gradient g of its output."""

    node: ir.Node
    x: ir.Value
    g: ir.Value


@dataclasses.dataclass
class Rectifiers:
    """What one walk back knows of rectifiers.

    Attributes:
        rule: their backward rule (rules/relu.py).
        met: those met so far.
        done: gradients that are zero already wherever their tensor is not positive.
    """

    rule: Relu = "gradient"
    met: list[Rectifier] = dataclasses.field(default_factory=list)
    done: set[ir.Value] = dataclasses.field(default_factory=set)

    def must_have_met(self) -> None:
        """Refuse a rule that made no difference.

        Raises:
            OptionError: another rule than the gradient, and no rectifier between image and scores.
        """
        if self.rule != "gradient" and not self.met:
            raise OptionError(
                f"there is no ReLU on the way, so the {self.rule} rule would give the plain "
                "gradient.",
                "leave --relu out.",
            )

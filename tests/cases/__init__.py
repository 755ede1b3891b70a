"""The table of rule cases: for every operator with a rule, models that exercise it.

Each module holds the cases of the module of that name in ``backlit.export.rules``.
"""

from . import (
    activation,
    arithmetic,
    convolution,
    elementwise,
    indexing,
    normalisation,
    pooling,
    product,
    recurrent,
    reduction,
    resize,
    shape,
    trigonometric,
)
from .case import Array, Case, case

TABLES = {
    module.__name__.rpartition(".")[2]: module.CASES
    for module in (
        activation,
        arithmetic,
        convolution,
        elementwise,
        indexing,
        normalisation,
        pooling,
        product,
        recurrent,
        reduction,
        resize,
        shape,
        trigonometric,
    )
}
CASES = [case for table in TABLES.values() for case in table]

__all__ = ["CASES", "TABLES", "Array", "Case", "case"]

"""A file's graph built again of its source: another rule of ReLU, other maps, other weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from ...runtime.contract import Contract, Relu
from ..optimise import optimise
from ..prepare.classifier import prepare
from ..wrap import without_gradients, wrap

Change = Callable[[ir.Graph, ir.Value, ir.Value], None]
"""What is done to the classifier, its image input and its scores, before it is differentiated."""


def rebuilt(
    source: ir.Model,
    contract: Contract,
    maps: Sequence[str],
    relu: Relu = "gradient",
    change: Change | None = None,
) -> ir.Model:
    """Differentiate the source as the file was, in the source's own precision.

    Args:
        source: the classifier that the file was made of; stays as it is.
        contract: the file's metadata: its input and normalisation.
        maps: the maps wanted.
        relu: the rule of ReLU.
        change: applied to the classifier before.

    Returns:
        The graph, without metadata.

    Raises:
        ModelError: the source is no such classifier.
        OptionError: a rule for rectifiers, and none to follow it.
    """
    image, scores, model = classifier(source, contract)
    if change is not None:
        change(model.graph, image, scores)
    wrap(model.graph, image, scores, contract.image, contract.normalisation, maps, relu=relu)
    without_gradients(model)
    optimise(model)
    return model


def classifier(source: ir.Model, contract: Contract) -> tuple[ir.Value, ir.Value, ir.Model]:
    """The source, normalised: its image, the scores that the file explains, and the model."""
    size = contract.image.height, contract.image.width
    model, image, scores, _ = prepare(source, size, score=contract.score)
    return image, scores, model

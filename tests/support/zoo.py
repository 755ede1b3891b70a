"""torchvision's and timm's classifiers with seeded random weights, and how a gradient is judged.

The CPU build of torch lacks two operators that torchvision's import registers fake kernels for;
declaring them lets its pure-Python classifiers load. This is for tests only.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from PIL import Image

from backlit import models

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
Array = np.ndarray[Any, Any]
COSINE, ERROR, WORST, SCORES = 0.9999, 1e-2, 5e-2, 1e-3


_libraries: list[torch.library.Library] = []
"""What they declare goes with them."""


@functools.cache
def torchvision() -> Any:
    """Import torchvision with the CPU build of torch."""
    if torch.version.cuda is None:  # else torchvision's own library declares them
        library = torch.library.Library("torchvision", "DEF")
        _libraries.append(library)
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    return torchvision


def timm() -> Any:
    """Import timm, which imports torchvision."""
    torchvision()
    import timm

    return timm


def classifier(name: str, seed: int = 0, size: int = 224) -> torch.nn.Module:
    """A torchvision classifier with weights as if trained."""
    torch.manual_seed(seed)
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return lifelike(torchvision().models.get_model(name, weights=None, **options), size)


# At their own 546 and 768 pixels, attention takes tens of GB in the float64 reference.
SMALLER = ("qwen3_vit_88m", "gemma4_vit_167m", "deepseek_vit_412m")


def timm_classifier(name: str, seed: int = 0) -> tuple[torch.nn.Module, int]:
    """A timm classifier with weights as if trained, and its own input size (SMALLER: 224)."""
    library = timm()
    torch.manual_seed(seed)
    options = {"img_size": 224} if name in SMALLER else {}
    model = library.create_model(name, exportable=True, **options)
    size: int = library.data.resolve_model_data_config(model)["input_size"][1]
    if name in SMALLER:
        size = 224
    return lifelike(model, size), size


def lifelike(model: torch.nn.Module, size: int) -> torch.nn.Module:
    """Random weights that hide nothing, BatchNorm statistics measured on pictures; in eval mode.

    Many models begin with layer scales of 1e-6, gates and heads of 0 and biases of 0: with those
    nearly nothing of a branch shows in the gradient, and a wrong rule inside it would not either.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            first = float(parameter.flatten()[0])
            if not parameter.is_floating_point() or not bool((parameter == first).all()):
                continue
            if first == 0 and parameter.ndim > 1:
                parameter.normal_(0, 1 / math.sqrt(parameter[0].numel()))
            elif first == 0:
                parameter.normal_(0, 0.1)
            elif abs(first) < 0.1:
                parameter.uniform_(0.1, 0.3)
            else:
                parameter.mul_(torch.empty_like(parameter).uniform_(0.5, 1.5))
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            noise = torch.nn.functional.interpolate(2.5 * torch.randn(4, 3, 8, 8), size)
            scaled = torch.tensor((pictures(size, 8) / 255 - MEAN) / STD).permute(0, 3, 1, 2)
            model.train()(torch.cat([scaled.float(), noise + 0.3 * torch.randn(4, 3, size, size)]))
    return model.eval()


def pictures(size: int, count: int = 4) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Some of the embedded sample pictures, uint8 [count, size, size, 3]."""
    files = sorted(models.samples().glob("*.jpg"))[:count]
    images = [np.asarray(Image.open(f).convert("RGB").resize((size, size))) for f in files]
    return np.stack(images)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """A file's gradients against torch.autograd in float64, one per picture and class.

    float32 flips ReLU masks near zero, one picture more than another. So the medians count; a wrong
    gradient is off on every picture, or far off on one. In a few deep networks the median is off
    too, and PyTorch's own float32 is as far from its float64.

    Attributes:
        cosine, error: medians of the cosine and of the relative L2 distance.
        worst: the largest relative L2 distance.
        scores: largest difference of a score, over the largest score.
        own: PyTorch's own float32 against its float64, median of the relative L2 distance; measured
            only where ``error`` is over the limit.
    """

    cosine: float
    error: float
    worst: float
    scores: float
    own: float | None = None

    @property
    def close(self) -> bool:
        return self.cosine >= COSINE and self.error <= ERROR

    @property
    def good(self) -> bool:
        own = self.own or 0.0
        close = self.close or self.error <= 3 * own
        return close and self.worst <= max(WORST, 9 * own) and self.scores <= SCORES


def agreement(model: torch.nn.Module, session: ort.InferenceSession, count: int = 4) -> Agreement:
    """Judge a file made with ``mean=MEAN, std=STD, maps="gradient"``.

    Args:
        model: the classifier in eval mode.
        session: of the file.
        count: pictures, even; for each two classes are explained.
    """
    size = session.get_inputs()[0].shape[1]
    exact = copy.deepcopy(model).double()
    shown = pictures(size, count)
    cosines, errors, scores_off = [], [], []
    expected: list[Array] = []
    explained = []
    for pair in range(0, count, 2):  # two at a time: a batch, in bounded memory
        index = np.array([[-1, 7], [3, -2]])
        feed = {"image": shown[pair : pair + 2], "class_index": index}
        scores, chosen, gradient = session.run(["scores", "class", "gradient"], feed)
        for n in range(2):
            right, gradients = _autograd(exact, shown[pair + n], chosen[n], torch.float64)
            scores_off.append(np.abs(scores[n] - right).max() / np.abs(right).max())
            for found, wanted in zip(gradient[n].astype(np.float64), gradients, strict=True):
                lengths = np.linalg.norm(found) * np.linalg.norm(wanted)
                cosines.append(np.vdot(found, wanted) / max(lengths, 1e-300))
                errors.append(_distance(found, wanted))
            expected.extend(gradients)
            explained.append((shown[pair + n], chosen[n]))
    judged = Agreement(
        float(np.median(cosines)), float(np.median(errors)), float(max(errors)),
        float(max(scores_off)),
    )  # fmt: skip
    if judged.close:
        return judged
    single = [
        gradient for picture, classes in explained
        for gradient in _autograd(model, picture, classes, torch.float32)[1]
    ]  # fmt: skip
    own = [_distance(a, b) for a, b in zip(single, expected, strict=True)]
    return dataclasses.replace(judged, own=float(np.median(own)))


def _autograd(
    model: torch.nn.Module, picture: Any, classes: Any, dtype: torch.dtype
) -> tuple[Array, list[Array]]:
    """The scores [classes], and per class explained the gradient [C, H, W] for a picture."""
    mean, std = torch.tensor(MEAN, dtype=dtype), torch.tensor(STD, dtype=dtype)
    pixels = torch.tensor(picture).to(dtype).requires_grad_()
    one = ((pixels / 255 - mean) / std).permute(2, 0, 1)
    # Twice in a batch: of one image alone PyTorch 2.13 gives a wrong gradient where the one that
    # reaches a BatchNorm or Conv is a transposed view (its differences say so: xcit, iformer).
    scores = model(torch.stack([one, one]))[0]
    gradients = [torch.autograd.grad(scores[c], pixels, retain_graph=True)[0] for c in classes]
    return scores.detach().numpy(), [g.permute(2, 0, 1).double().numpy() for g in gradients]


def _distance(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), 1e-300))

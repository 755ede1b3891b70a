"""What a repository's Python models do: decode, compute the maps, cut; it runs in Triton.

A model's ``1/model.py`` names one of the classes as ``TritonPythonModel``. Triton calls
``initialize`` once for each instance, and ``execute`` with the requests of a batch; the answer to
each is tensors or an error, and one bad image is one error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as triton
from PIL import Image

from ...backend.interface import check_class, normalise
from ...boxes.recipes import Recipe, get_recipe
from ...contract import Contract
from ...decoding import decoded_one
from ...errors import BacklitError, ClassError
from ...images.prepare import Prepared
from ...images.untrusted import MOST_PIXELS, encoded
from ...located import boxes_of
from ...maps.enlarged import enlarged
from ...results import Saliency
from ...session import Session
from ...stages import cores, one_opencv_thread
from ..names import NOTHING
from .repository import ABOUT, MODEL, PREPARED

Tensors = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class About:
    """What the repository's writer tells a model.

    Attributes:
        contract: of the file.
        recipe: how maps become boxes.
        classes: of a request, at most.
    """

    contract: Contract
    recipe: Recipe
    classes: int

    @staticmethod
    def beside(arguments: dict[str, str]) -> About:
        """What stands in the version's folder; the arguments are those of ``initialize``."""
        folder = Path(arguments["model_repository"]) / arguments["model_version"]
        said = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        contract = Contract.from_json(json.dumps(said["contract"]), str(folder / ABOUT))
        recipe = get_recipe(said["recipe"]).starting_from(said["map"])
        return About(contract, recipe, said["max_top"])


class Decode:
    """Encoded images into what the network takes, and the way back to the image's own pixels.

    Of ``image`` bytes [n,1] and ``class_index`` int64 [n,K] come ``pixels``, as the file's input
    ``image``, ``frame`` uint8 [n,H,W,3], ``place`` float64 [n,6] and ``checked``, the classes.
    """

    def initialize(self, arguments: dict[str, str]) -> None:
        """Read what the writer said."""
        Image.MAX_IMAGE_PIXELS = MOST_PIXELS
        self._about = About.beside(arguments)
        self._pool = ThreadPoolExecutor(min(16, cores()))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """The images of a batch, decoded beside each other."""
        return _answers(requests, ("image", "class_index"), self._decoded, self._pool)

    def _decoded(self, image: npt.NDArray[Any], class_index: npt.NDArray[Any]) -> Tensors:
        contract = self._about.contract
        if class_index.shape[1] > self._about.classes:
            raise ClassError(
                f"{class_index.shape[1]} classes are too many.",
                f"ask for {self._about.classes} at most.",
            )
        for index in np.unique(class_index):
            check_class(int(index), contract)
        found = [_prepared(data, contract) for data in image[:, 0]]
        views = np.concatenate([one.views for one in found])
        places = [[getattr(one, name) for name in PREPARED] for one in found]
        return {
            "pixels": views if contract.image.dtype == "uint8" else normalise(views, contract),
            "frame": np.stack([one.frame for one in found]),
            "place": np.array(places, np.float64),
            "checked": class_index,
        }


class Maps:
    """The network, where Triton has no backend that runs ONNX; inputs and outputs of the file."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Open the file where Triton says, and run it once."""
        path = Path(arguments["model_repository"]) / arguments["model_version"] / MODEL
        if arguments["model_instance_kind"] == "GPU":
            own = {"cuda": {"device_id": arguments["model_instance_device_id"]}}
            self._session = Session(path, "cuda", options=own)
        else:
            self._session = Session(path, "cpu")
        spec = self._session.contract.image
        noise = np.zeros((1, spec.height, spec.width, spec.channels), np.uint8)
        self._session.run(noise, np.full((1, 1), -1, np.int64))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One run for all requests with as many classes."""
        taken = [(_array(one, "image"), _array(one, "class_index")) for one in requests]
        groups: dict[int, list[int]] = defaultdict(list)
        for place, (_, index) in enumerate(taken):
            groups[index.shape[1]].append(place)
        answers: list[Any] = [None] * len(requests)
        for places in groups.values():
            images, index = (
                np.concatenate([taken[place][part] for place in places]) for part in (0, 1)
            )
            try:
                found = self._session.run(images, index)
            except BacklitError as error:
                answers = [
                    _refused(error) if at in places else had for at, had in enumerate(answers)
                ]
                continue
            tensors = {"scores": found.scores, "class": found.classes, "score": found.score}
            first = 0
            for place in places:
                rows = slice(first, first := first + len(taken[place][0]))
                own = {name: made[rows] for name, made in {**tensors, **found.maps}.items()}
                answers[place] = _answer(own)
        return answers


class Cut:
    """Maps into boxes in pixels of the image: ``box`` int32 [n,K,4] and ``label`` bytes [n,K]."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Read what the writer said."""
        import cv2  # noqa: F401  here, because its import is not for several threads at once

        self._about = About.beside(arguments)
        self._pool = ThreadPoolExecutor(min(16, cores()))
        self._context = contextlib.ExitStack()
        self._context.enter_context(one_opencv_thread())

    def finalize(self) -> None:
        """End the threads."""
        self._pool.shutdown()
        self._context.close()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """The images of a batch, cut beside each other."""
        names = ("frame", "place", "class", "score", "map")
        return _answers(requests, names, self._cut, self._pool)

    def _cut(self, *given: npt.NDArray[Any]) -> Tensors:
        """Of one request: frames, places, classes, scores and maps of n images."""
        labels, contract = self._about.contract.labels, self._about.contract
        boxes, names = [], []
        for frame, place, classes, scores, maps in zip(*given, strict=True):
            prepared = _placed(frame, place)
            found = Saliency(
                image=None,
                width=prepared.width,
                height=prepared.height,
                classes=classes,
                labels=None if labels is None else tuple(labels[index] for index in classes),
                scores=scores,
                maps=enlarged(maps, contract.image.height, contract.image.width),
                map=str(self._about.recipe.map),
                prepared=prepared,
            )
            objects = boxes_of(found, self._about.recipe, masks=False)
            boxes.append([NOTHING if box is None else box for box in objects.boxes])
            names.append([(label or "").encode() for label in objects.labels])
        return {"box": np.array(boxes, np.int32), "label": np.array(names, np.object_)}


def _prepared(data: bytes, contract: Contract) -> Prepared:
    decoded = decoded_one(0, encoded(data), contract.image, 1)
    if decoded.error is not None:
        raise decoded.error
    if decoded.prepared is None:
        raise TypeError("an image is neither decoded nor an error")
    return decoded.prepared


def _placed(frame: npt.NDArray[np.uint8], place: npt.NDArray[np.float64]) -> Prepared:
    """What `Decode` made of an image, without its views, which the network has had."""
    said = dict(zip(PREPARED, place.tolist(), strict=True))
    whole = {name: round(said.pop(name)) for name in ("width", "height", "left", "top")}
    return Prepared(frame=frame, views=frame[None, :0], **whole, **said)


def _answers(
    requests: Sequence[Any],
    names: Sequence[str],
    function: Callable[..., Tensors],
    pool: ThreadPoolExecutor,
) -> list[Any]:
    """``function`` of the tensors of each request, in threads, as Triton takes answers."""

    def made(given: list[npt.NDArray[Any]]) -> Tensors | BacklitError:
        try:
            return function(*given)
        except BacklitError as error:
            return error

    given = [[_array(request, name) for name in names] for request in requests]
    return [
        _refused(one) if isinstance(one, BacklitError) else _answer(one)
        for one in pool.map(made, given)
    ]


def _array(request: Any, name: str) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = triton.get_input_tensor_by_name(request, name).as_numpy()
    return found


def _answer(tensors: Tensors) -> Any:
    return triton.InferenceResponse(
        [triton.Tensor(name, np.ascontiguousarray(values)) for name, values in tensors.items()]
    )


def _refused(error: BacklitError) -> Any:
    return triton.InferenceResponse(error=triton.TritonError(f"{error.problem} {error.fix}"))

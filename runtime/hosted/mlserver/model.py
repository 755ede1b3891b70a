"""The model that MLServer runs: images in, boxes and maps out, by the Open Inference Protocol.

Batches across requests are formed by the engine of ``backlit serve``, not by MLServer, which joins
what requests hold whatever its shape: a request for two classes would spoil its neighbours', and
one bad image fail them all.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import mlserver
import numpy as np
import numpy.typing as npt
from mlserver.codecs import NumpyCodec
from mlserver.errors import MLServerError
from mlserver.handlers.custom import CustomHandler, register_custom_handler
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
    Parameters,
    RequestInput,
    ResponseOutput,
)
from mlserver.utils import get_model_uri
from PIL import Image

from ...arrays import Index
from ...boxes.recipes import get_recipe
from ...drawing.display import encoded as picture
from ...errors import BacklitError, ClassError, ImageError, OptionError
from ...images.load import Source
from ...images.untrusted import MOST_PIXELS, encoded
from ...maps.classes import resolve
from ...results import Localization, Result
from ...serving.answers import map_picture
from ...serving.engine import Job
from ...serving.opening import open_engine
from ...serving.refusals import meaning
from ...serving.settings import Settings
from ..names import NOTHING
from .metrics import BATCHES

Tensors = dict[str, npt.NDArray[Any]]

OUTPUTS = ("class", "label", "score", "box")
"""What is returned unless a request names its outputs."""
EXPLAINED = (*OUTPUTS, "map_png", "map_box")
"""What ``:explain`` returns unless a request names its outputs."""
_SECONDS = 30.0
_TENSORS = {
    "class": ("INT64", [-1, -1]),
    "label": ("BYTES", [-1, -1]),
    "score": ("FP32", [-1, -1]),
    "box": ("INT32", [-1, -1, 4]),
    "map": ("FP32", [-1, -1, -1, -1]),
    "map_png": ("BYTES", [-1, -1]),
    "map_box": ("INT32", [-1, 4]),
}


class BacklitModel(mlserver.MLModel):
    """A Backlit file in MLServer; ``parameters.extra`` of its settings says how it runs."""

    def __init__(self, settings: mlserver.ModelSettings) -> None:
        super().__init__(settings)

        async def explain(payload: InferenceRequest) -> InferenceResponse:
            return await self._answered(payload, EXPLAINED)

        route = CustomHandler(rest_path=f"/v2/models/{self.name}:explain")
        register_custom_handler(route, explain)
        self.explain = explain  # where MLServer looks for routes

    async def load(self) -> bool:
        """Open the file, run it once, and start the threads."""
        said = dict((self.settings.parameters and self.settings.parameters.extra) or {})
        self._most = int(said.get("max_top", 10))
        recipe = get_recipe(said.get("recipe", "default")).starting_from(said.get("map"))
        path = await get_model_uri(self.settings)
        Image.MAX_IMAGE_PIXELS = MOST_PIXELS
        settings = Settings(path, recipe, providers=said.get("providers"))
        batches = BATCHES.labels(self.name)
        self._engine = await asyncio.to_thread(
            open_engine, settings, lambda images, seconds: batches.observe(images)
        )
        self._engine.start()
        self._contract = self._engine.runners[0].contract
        self.inputs = [
            MetadataTensor(name="image", datatype="BYTES", shape=[-1, 1]),
            MetadataTensor(name="class_index", datatype="INT64", shape=[-1, -1]),
        ]
        self.outputs = [
            MetadataTensor(name=name, datatype=kind, shape=shape)
            for name, (kind, shape) in _TENSORS.items()
        ]
        return True

    async def unload(self) -> bool:
        """Finish what was taken, and end the threads."""
        await asyncio.to_thread(self._engine.stop)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Boxes of the images, and what else the request names as its outputs."""
        return await self._answered(payload, OUTPUTS)

    async def _answered(
        self, payload: InferenceRequest, otherwise: tuple[str, ...]
    ) -> InferenceResponse:
        names = tuple(one.name for one in payload.outputs or ()) or otherwise
        try:
            rows = await self._found(payload, names)
        except BacklitError as error:
            raise MLServerError(f"{error.problem} {error.fix}", meaning(error)[0]) from error
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[_output(name, np.stack([row[name] for row in rows])) for name in names],
        )

    async def _found(self, payload: InferenceRequest, names: tuple[str, ...]) -> list[Tensors]:
        if unknown := sorted(set(names).difference(_TENSORS)):
            raise ClassError(
                f"there is no output {unknown[0]!r}.", f"choose from {', '.join(_TENSORS)}."
            )
        given = {one.name: one for one in payload.inputs}
        if "image" not in given:
            raise ImageError("the request has no input image.", "name the image's input image.")
        loads = _images(given["image"])
        if not loads:
            raise ImageError("the request has no image.", "send one or more.")
        index = self._index(given.get("class_index"), len(loads))
        jobs = [
            Job(
                load=load,
                index=row[None],
                answer=partial(_tensors, names=names),
                expires=time.monotonic() + _SECONDS,
            )
            for load, row in zip(loads, index, strict=True)
        ]
        for job in jobs:
            self._engine.submit(job)
        found = await asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
        return list(found)

    def _index(self, given: RequestInput | None, images: int) -> Index:
        """The classes to explain, int64 [images,K]; the best, where a request does not say."""
        classes = None if given is None else np.atleast_2d(_array(given))
        index = resolve(classes, 1, self._contract, images)
        if index.shape[1] > self._most:
            raise ClassError(
                f"{index.shape[1]} classes are too many.", f"ask for {self._most} at most."
            )
        return np.broadcast_to(index, (images, index.shape[1]))


def _images(given: RequestInput) -> list[Callable[[], Source]]:
    """What loads each image of an input: bytes of files, or pixels uint8 [n,h,w,3]."""
    if given.datatype == "UINT8":
        pixels = _array(given)
        if pixels.ndim != 4:
            raise ImageError(
                f"the image is UINT8 {list(pixels.shape)}.", "send [n,h,w,3], or a file's bytes."
            )
        return [partial(_itself, one) for one in pixels]
    if given.datatype != "BYTES":
        raise ImageError(f"the image is {given.datatype}.", "send BYTES, or UINT8 [n,h,w,3].")
    return [partial(encoded, _bytes(one)) for one in getattr(given.data, "root", given.data)]


def _array(given: RequestInput) -> npt.NDArray[Any]:
    try:
        return NumpyCodec.decode_input(given)
    except (ValueError, TypeError, OverflowError) as error:
        raise OptionError(
            f"the input {given.name} does not hold {given.datatype} {given.shape}.",
            "make its data, datatype and shape fit each other.",
        ) from error


def _itself(pixels: npt.NDArray[np.uint8]) -> Source:
    return pixels


def _bytes(value: Any) -> bytes:
    """The bytes of an image's file; JSON has them as base64."""
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ImageError(
            "the image is not base64.", "encode the bytes of the file, without line breaks."
        ) from error


def _tensors(result: Result[Localization], names: tuple[str, ...]) -> Tensors:
    """The outputs for one image, as arrays without the first dimension."""
    found = result.value
    if found is None:
        raise result.error or TypeError("a result has neither a value nor an error")
    height, width = found.maps.shape[1:]
    boxes = [NOTHING if box is None else box for box in found.boxes]
    made = {
        "class": found.classes,
        "label": np.array([(label or "").encode() for label in found.labels], np.object_),
        "score": found.scores,
        "box": np.array(boxes, np.int32),
        "map": found.maps,
        "map_box": np.array(found.prepared.box_to_original((0, 0, width, height)), np.int32),
    }
    if "map_png" in names:
        pictures = [base64.b64encode(picture(map_picture(one), "png")) for one in found.maps]
        made["map_png"] = np.array(pictures, np.object_)
    return made


def _output(name: str, values: npt.NDArray[Any]) -> ResponseOutput:
    if values.dtype != np.object_:
        return NumpyCodec.encode_output(name, values)
    content = "base64" if name == "map_png" else "str"
    return ResponseOutput(
        name=name,
        datatype="BYTES",
        shape=list(values.shape),
        data=values.ravel().tolist(),
        parameters=Parameters(content_type=content),
    )

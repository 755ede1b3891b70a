"""Reasons to trust a file's maps: five measurements of a file, on images of one's own.

The record that JSON takes is specified in trust_record.py, the page is trust_page.py's.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ...runtime.backend.outputs import Outputs
from ...runtime.contract import Contract, ImageInput, Map
from ...runtime.files import file_hash
from ...runtime.maps.explain import enlarged
from ...runtime.maps.points import graph_values
from ...runtime.session import Session
from ..sources.classifier import Classifier
from ..sources.load import load, to_onnx
from ..verify.verify import compare
from ..write import save, stamp
from . import complete, perturb, pointing, randomise, sample
from . import record as trust_record
from .randomise import Sanity
from .rebuild import remade
from .record import Record
from .sample import Sampling

Maps = dict[str, npt.NDArray[np.float32]]

SANITY_IMAGES, COMPLETE_IMAGES = 16, 10
"""How many of the images the two dearest sections take; both vary little between images."""

SHOWN = 3
RANDOM, CENTRED = "random order", "centred Gaussian"


class Watch(Protocol):
    """Who is told how far it is."""

    def begin(self, what: str, steps: int) -> None:
        """A section begins, of so many steps."""

    def step(self) -> None:
        """A step is done."""


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What was measured, and what the page shows besides.

    Attributes:
        record: the numbers, as in trust_record.py.
        sampling: the images.
        maps: by name, those of the top classes: float32 [N,h,w].
        sanity: None without a source.
    """

    record: Record
    sampling: Sampling
    maps: Maps
    sanity: Sanity | None


def measure(
    path: Path,
    arguments: Sequence[str],
    watch: Watch,
    *,
    classifier: Classifier | None = None,
    samples: int = 50,
    seed: int = 0,
) -> Findings:
    """Measure a file.

    Args:
        path: a Backlit file.
        arguments: images, folders, data sets; see `evaluation.sample.draw`.
        watch: told how far it is.
        classifier: the source, for the sections that need it.
        samples: how many images to draw.
        seed: of all that is drawn: images, orders, weights.

    Raises:
        BacklitError: file, source or images cannot be read. A wrong gradient is no error: the
            findings say so.
    """
    session = Session(path)
    contract = session.contract
    sampling = sample.draw(arguments, contract, samples, seed)
    views, seconds = sampling.views(), {}

    @contextmanager
    def timed(name: str, what: str, steps: int) -> Iterator[None]:
        watch.begin(what, steps)
        started = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - started, 1)

    source = parity = sanity = None
    if classifier is not None:
        source, _ = to_onnx(classifier, (contract.image.height, contract.image.width))
        with timed("parity", "parity with the source", 1):
            made, _ = to_onnx(load(path))
            parity = compare(made, source, classifier.module, contract)
            watch.step()
    scorer = Session(path, maps=())
    with timed("maps", "maps", len(views)):
        probability, top, maps, by_class = _explained(session, scorer, sampling, watch.step)
    count = len(views)
    with timed("perturbation", "insertion and deletion", count):
        height, width = views.shape[1:3]
        orders: dict[str, npt.NDArray[np.int64]] = {
            name: perturb.order(enlarged(each, height, width), seed) for name, each in maps.items()
        }
        orders[RANDOM] = perturb.random_order(count, height, width, seed)
        orders[CENTRED] = perturb.centred_order(count, height, width, seed)
        curves = perturb.curves(scorer, views, top, orders, done=watch.step)
    played = pointing.play(sampling.samples, by_class)

    few = min(COMPLETE_IMAGES, count)
    with timed("completeness", "Integrated Gradients", few * len(complete.STEPS)):
        completeness = _completeness(session, source, views[:few], top[:few], watch.step)
    if source is not None:
        few = min(SANITY_IMAGES, count)
        with timed("sanity", "weights re-drawn", 1):
            sanity = randomise.sanity_check(
                source, contract, graph_values(session, views[:few]), top[:few],
                {name: each[:few] for name, each in maps.items()}, seed=seed, shown=SHOWN,
                begin=lambda steps: watch.begin("weights re-drawn", steps), done=watch.step,
            )  # fmt: skip
    record = {
        "schema": trust_record.SCHEMA,
        "backlit": importlib.metadata.version("backlit"),
        "file": path.name,
        "file_sha256": file_hash(path),
        "source": None if classifier is None else classifier.name,
        "source_is_recorded": None
        if classifier is None
        else classifier.sha256 == contract.source.sha256,
        "precision": contract.precision,
        "provider": session.provider,
        "seconds": seconds,
        "images": {
            "drawn": count, "of": sampling.total, "seed": seed,
            "sources": list(sampling.sources), "notes": list(sampling.notes),
        },
        "maps": list(maps),
        "parity": trust_record.parity(parity),
        "completeness": completeness,
        "sanity": trust_record.sanity(sanity, few),
        "perturbation": trust_record.perturbation(curves, CENTRED, seed),
        "pointing": trust_record.pointing(played, seed),
        "per_image": trust_record.images(sampling, contract, top, probability, curves),
    }  # fmt: skip
    return Findings(record, sampling, maps, sanity)


def _explained(
    session: Session, scorer: Session, sampling: Sampling, done: Callable[[], None]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], Maps, list[dict[str, dict[int, Any]]]]:
    """The top class of each image, its probability and maps, and maps of the true classes."""
    first, top, true = [], [], []
    maps: dict[str, list[Any]] = {}
    for one in sampling.samples:
        view = one.view[None]
        scores = scorer.run(view, np.array([[-1]])).scores
        index = int(scores[0].argmax())
        top.append(index)
        first.append(perturb.probabilities(scores, session.contract)[0, index])
        # Where a true class stands for several of the classifier's, it is the one scoring best.
        right = {key: max(group, key=lambda i: scores[0, i]) for key, group in one.members.items()}
        found = _own(session, session.run(view, np.array([[index, *right.values()]])))
        by_class: dict[str, dict[int, Any]] = {}
        for name, rows in found.items():
            maps.setdefault(name, []).append(rows[0, 0].copy())
            pixels = enlarged(rows[0, 1:], *one.view.shape[:2])
            by_class[name] = dict(zip(right, pixels, strict=True))
        true.append(by_class)
        done()
    stacked = {name: np.stack(each) for name, each in maps.items()}
    return np.array(first), np.array(top, np.int64), stacked, true


def _own(session: Session, outputs: Outputs) -> Maps:
    """The file's maps [N,K,h,w]; of ``gradient`` the saliency."""
    names = [made.name for made in session.contract.maps]
    found: Maps = {name: outputs[name] for name in names if name != "gradient"}
    return found if "gradient" not in names else {"saliency": outputs.saliency, **found}


def _completeness(
    session: Session,
    source: ir.Model | None,
    views: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    done: Callable[[], None],
) -> Record:
    contract = session.contract
    if contract.relu != "gradient":
        return {"missing": f"the file returns {contract.relu} maps, which no path adds up."}
    if contract.map("gradient") is not None:
        return trust_record.completeness(
            "file", complete.measure(session, views, classes, done=done)
        )
    if source is None:
        return {
            "missing": "the file returns no gradient with its signs: give its source as well, or "
            "export it with --maps saliency,features,gradient."
        }
    with tempfile.TemporaryDirectory(prefix="backlit-") as folder:
        other = with_gradient(source, contract, Path(folder) / "gradient.onnx")
        return trust_record.completeness(
            "source", complete.measure(other, views, classes, done=done)
        )


def with_gradient(source: ir.Model, contract: Contract, path: Path) -> Session:
    """The source differentiated again with its signs, as a file that takes float32.

    float32, because between pixels a path has points that uint8 would round.
    """
    spec = contract.image
    plain: ImageInput = dataclasses.replace(spec, dtype="float32", layout="NCHW")
    gradient: str = "gradient"
    made = dataclasses.replace(
        contract, image=plain, maps=(Map(gradient, spec.height, spec.width, "d score / d image"),),
        precision="float32", verification=None,
    )  # fmt: skip
    model = remade(source, made, [gradient])
    stamp(model, made)
    save(model, path)
    return Session(path)

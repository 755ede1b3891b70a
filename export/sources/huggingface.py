"""Hugging Face classifiers: ``hf:NAME_OR_FOLDER``."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...runtime.errors import BacklitWarning, ModelError, OptionError
from .checkpoints import read, set_weights
from .classifier import Classifier
from .modules import classifier
from .packages import import_or_fix
from .processors import Settings, preprocessing
from .torch_export import quiet

_PATIENCE = 10.0  # seconds for the hub's first answer
_FILES = ("preprocessor_config.json", "processor_config.json")


def from_hugging_face(text: str, weights: str | None) -> Classifier:
    """``hf:NAME_OR_FOLDER``, what ``AutoModelForImageClassification.from_pretrained`` takes.

    A folder is read without a network. Nothing of a model's own code is run.

    Raises:
        ModelError: transformers is missing, the model cannot be had or classifies no images.
    """
    transformers = import_or_fix("transformers", "pip install transformers")
    name = text.removeprefix("hf:")
    if not name:
        raise OptionError("hf: names no model.", "give hf:NAME, or hf: and a folder.")
    local = Path(name).is_dir() or not _hub_answers(name)
    where = {"local_files_only": True} if local else {}
    file = None if weights in (None, "random") else Path(str(weights))
    with _plainly(text, name), _silent(transformers), quiet():
        config = transformers.AutoConfig.from_pretrained(name, **where)
        builder = transformers.AutoModelForImageClassification
        if weights is None:
            module, loading = builder.from_pretrained(
                name, config=config, output_loading_info=True, **where
            )
        else:
            module, loading = builder.from_config(config), {}
        module = module.float()
        says = preprocessing(_processor(name, transformers, where), config)
    missing = sorted(loading.get("missing_keys") or ())
    if missing:
        warnings.warn(
            f"{len(missing)} tensors of {text} are not in its weights and are random: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}.",
            BacklitWarning,
            stacklevel=4,
        )
    if file is not None:
        set_weights(module, read(file), file)
    return classifier(module, text, says)


def _hub_answers(name: str) -> bool:
    """Whether the hub is there: asked once, where loading asks again and again for half a minute.

    Where it is not, what was downloaded before is still found.
    """
    try:
        import huggingface_hub
    except ImportError:  # transformers has it; then it says what is wrong
        return True
    try:
        huggingface_hub.model_info(name, timeout=_PATIENCE)
    except Exception as error:  # of the hub, or of its HTTP library
        return getattr(error, "response", None) is not None
    return True


def _processor(name: str, transformers: Any, where: Mapping[str, bool]) -> Settings | None:
    """The image processor's configuration, of a folder or the hub; None where there is none."""
    for file in _FILES:
        path = Path(name) / file
        if not Path(name).is_dir():
            try:
                path = Path(transformers.utils.cached_file(name, file, **where))
            except Exception:  # noqa: S112 - there is none, in the many ways that a hub says so
                continue
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            inside = found.get("image_processor", found)
            if isinstance(inside, Mapping) and ("size" in inside or "image_mean" in inside):
                return inside
    return None


@contextlib.contextmanager
def _plainly(text: str, name: str) -> Iterator[None]:
    """What transformers raises, as one line."""
    try:
        yield
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[0][:300] if lines else type(error).__name__
        fix = "check the name and the network, or download the model elsewhere and give hf:FOLDER."
        if Path(name).is_dir():
            fix = "give a folder that save_pretrained of an image classifier has written."
        elif "/" not in name or Path(name).is_absolute() or name.startswith("."):
            fix = "check the name: hf:OWNER/NAME, or hf: and a folder that is there."
        if "Unrecognized configuration class" in said:
            kind = re.search(r"configuration class <class '[\w.]*?(\w+)'>", str(error))
            said = f"transformers has no image classifier for {kind[1] if kind else 'it'}."
            fix = "give a model that AutoModelForImageClassification takes."
        elif "trust_remote_code" in str(error):
            said = "it is made by code of its own, which Backlit does not run."
            fix = "load it in Python yourself, and give the module to backlit.export."
        raise ModelError(f"{text} cannot be loaded: {said}", fix) from error


@contextlib.contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """Without transformers' progress bars and advice; its errors say what matters."""
    says = getattr(getattr(transformers, "utils", None), "logging", None)
    if says is None:
        yield
        return
    level, bars = says.get_verbosity(), says.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")  # tells of each of its attempts
    hub_level = hub.level
    says.set_verbosity_error()
    says.disable_progress_bar()
    hub.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        hub.setLevel(hub_level)
        says.set_verbosity(level)
        if bars:
            says.enable_progress_bar()

"""The cache of TensorRT engines: an entry per key, whole or absent, shared by processes.

What an engine depends on is in its key; a damaged entry is built again, with a warning. See
``sealed`` for how an entry survives being killed at any moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...errors import BacklitWarning, OutputError, unwritable
from ...locks import hold
from ..machine import Gpu
from .folders import Damaged, check, place, seal, sweep, workspace


def system() -> str:
    """Operating system and processor."""
    return f"{sys.platform} {platform.machine()}"


TIMING = "timing"
"""Folder beside the one that an entry is built in: the timing cache, and what comes of it."""

_NAME = re.compile("(timing-)?[0-9a-f]{64}")


class CacheWarning(BacklitWarning):
    """The cache could not be used as it was meant to be; the work goes on without."""


@dataclasses.dataclass(frozen=True)
class Shapes:
    """The runs that an engine takes: from 1 image and 1 class up to a largest; tuned for one.

    Attributes:
        max_images, max_classes: of the largest run. Memory and time to build grow with it.
        tuned_images, tuned_classes: of the run that TensorRT picks its kernels for.
    """

    max_images: int = 32
    max_classes: int = 5
    tuned_images: int = 8
    tuned_classes: int = 1


@dataclasses.dataclass(frozen=True)
class Key:
    """All that an engine depends on.

    Attributes:
        model: SHA-256 of the file without the maps that are left out, and of its weights.
        maps: names of the maps that were left in.
        onnxruntime, tensorrt: versions.
        gpu: see ``machine.Gpu``.
        options: of the TensorRT provider, those that shape an engine.
        shapes: of the runs.
        system: operating system and processor; an engine runs on no other.
    """

    model: str
    maps: tuple[str, ...]
    onnxruntime: str
    tensorrt: str
    gpu: Gpu
    options: tuple[tuple[str, str], ...]
    shapes: Shapes
    system: str = dataclasses.field(default_factory=system)

    def digest(self) -> str:
        """SHA-256 of the key as canonical JSON, hexadecimal."""
        return _hash(dataclasses.asdict(self))

    def machine(self) -> dict[str, Any]:
        """What a timing cache depends on: it is of all models on this GPU, TensorRT and system."""
        gpu = dataclasses.asdict(self.gpu)
        return {"gpu": gpu, "tensorrt": self.tensorrt, "system": self.system}

    def timing(self) -> str:
        """Name of the timing cache."""
        return f"timing-{_hash(self.machine())}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of the cache as ``backlit build --list`` shows it.

    Attributes:
        name: digest of its key, or of the timing cache.
        bytes: of its files.
        damage: what is wrong with it; empty if nothing is.
        about: its key, the seconds its build took, and the name of the model.
    """

    name: str
    bytes: int
    damage: str
    about: dict[str, Any]


class EngineCache:
    """A folder of engines.

    Attributes:
        root: where it is.
    """

    def __init__(self, root: Path | None = None) -> None:
        """Nothing is made or read yet.

        Args:
            root: None: ``tensorrt`` in ``$BACKLIT_CACHE``, or else in the user's cache folder.
        """
        self.root = root or default_root() / "tensorrt"

    def find(self, key: Key) -> Path | None:
        """The entry of a key if it is there and whole. Nothing is written, no lock is needed."""
        folder = self.root / key.digest()
        try:
            _check(folder, folder.name)
        except (OSError, Damaged):  # a cache that cannot be read at all: see ``folder``
            return None
        return folder

    def folder(self, key: Key, build: Callable[[Path], None], model: str = "") -> Path:
        """The entry of a key; it is built if there is none or it is damaged.

        Of several processes one builds and the others wait for it.

        Args:
            key: what the engine depends on.
            build: writes the files of the entry into the folder that it is given. The timing cache
                is in the folder ``TIMING`` beside that one, and what is there then is kept.
            model: name of the file, for ``entries``.

        Raises:
            OutputError: the cache cannot be written.
        """
        sweep(self.root)
        target = self.root / key.digest()
        try:
            _check(target, target.name)
            return target
        except Damaged as damage:
            warn(f"a cached TensorRT engine is damaged ({damage}) and built again: {target}")
        except OSError:  # it is not there; or the cache cannot be read, which building will say
            pass
        with self.workspace(key, key.digest()) as made:
            if self.find(key) is not None:  # built while this process waited
                return target
            with _writing(target):
                start = time.monotonic()
                (made / "entry").mkdir()
                build(made / "entry")
                seconds = round(time.monotonic() - start, 1)
                about = {"model": model, "seconds": seconds, "key": dataclasses.asdict(key)}
                seal(made / "entry", about)
                place(made / "entry", target)
        return target

    @contextlib.contextmanager
    def workspace(self, key: Key, name: str) -> Iterator[Path]:
        """A temporary folder for one process at a time, with the timing cache in ``TIMING``.

        Raises:
            OutputError: the cache cannot be written.
        """
        with contextlib.ExitStack() as stack:
            with _writing(self.root):
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                made = stack.enter_context(workspace(self.root, name))
                self._take_timing(key, made / TIMING)
            yield made
            self._keep_timing(key, made)

    def discard(self, key: Key) -> None:
        """Remove the entry of a key, which TensorRT does not take."""
        self._remove(key.digest())

    def entries(self) -> list[Entry]:
        """All entries and timing caches, each checked."""
        return [self._entry(name) for name in self._names()]

    def clear(self) -> list[Entry]:
        """Remove all entries, but none that is being built; what was removed."""
        sweep(self.root)
        return [found for found in self.entries() if self._remove(found.name)]

    def _entry(self, name: str) -> Entry:
        folder, damage, about = self.root / name, "", {}
        try:
            about = _check(folder, name)
        except (Damaged, OSError) as error:
            damage = str(error)
        files = [path for path in folder.glob("*") if path.is_file()]
        return Entry(name, sum(path.stat().st_size for path in files), damage, about)

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.root) if _NAME.fullmatch(name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise unwritable(self.root, error) from error

    def _remove(self, name: str) -> bool:
        with _writing(self.root), hold(self.root, name, wait=False) as held:
            if not held:
                return False
            gone = self.root / f".{name}.{os.getpid()}.part"  # absent at once, not bit by bit
            with contextlib.suppress(FileNotFoundError):
                (self.root / name).rename(gone)
                shutil.rmtree(gone)
        return True

    def _take_timing(self, key: Key, folder: Path) -> None:
        """Copy the timing cache; TensorRT refuses to build with a damaged one."""
        try:
            shutil.copytree(self.root / key.timing(), folder)
            _check(folder, key.timing())  # the copy, which nobody else can change
        except (OSError, shutil.Error, Damaged) as error:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            if isinstance(error, Damaged):
                warn(f"the timing cache of TensorRT is damaged ({error}) and begins anew")

    def _keep_timing(self, key: Key, made: Path) -> None:
        """Put the timing cache back. Of two that were made at once, the later one stays."""
        folder, name = made / TIMING, key.timing()
        with contextlib.suppress(OSError):  # it saves time, and the engine is there
            if any(folder.iterdir()):
                with hold(self.root, name):
                    seal(folder, {"key": key.machine()})
                    place(folder, self.root / name)


def default_root() -> Path:
    """``$BACKLIT_CACHE``, or ``backlit`` in the folder where a user's caches are.

    That is ``$XDG_CACHE_HOME`` or ``~/.cache`` (XDG Base Directory Specification), on Windows
    ``%LOCALAPPDATA%``.
    """
    if named := os.environ.get("BACKLIT_CACHE"):
        return Path(named).expanduser().absolute()
    variable = "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"
    caches = Path(os.environ.get(variable, ""))
    if not caches.is_absolute():  # the specification: ignore a relative path
        caches = Path.home() / ".cache"
    return caches / "backlit"


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        made = unwritable(path, error)
        raise OutputError(
            f"the engine cache cannot be written. {made.problem}",
            "check its rights and free space, or set BACKLIT_CACHE to another folder.",
        ) from error


def _check(folder: Path, name: str) -> dict[str, Any]:
    """As ``sealed.check``; and what was sealed must be what the name says."""
    about = check(folder)
    if _hash(about.get("key", {})) != name.removeprefix("timing-"):
        raise Damaged("it is of another key")
    return about


def warn(text: str) -> None:
    """Tell that the cache was not used as it was meant to be."""
    warnings.warn(text, CacheWarning, stacklevel=3)


def _hash(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

"""What a service is told: the file and how it runs, what it takes of a stranger, who may ask."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..backend.provider import Options
from ..boxes.recipes import Recipe
from ..errors import OptionError
from ..images.untrusted import MOST_PIXELS


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one process takes.

    Attributes:
        image_bytes: of one image's file.
        pixels: of one image.
        queue: requests that are taken and not answered; a further one is refused.
        memory: bytes of all the bodies that are held at once.
        classes: of one request.
        seconds: from a request's first byte to its answer.
        head_seconds: for the head of a request to arrive.
    """

    image_bytes: int = 20_000_000
    pixels: int = MOST_PIXELS
    queue: int = 128
    memory: int = 512_000_000
    classes: int = 10
    seconds: float = 30.0
    head_seconds: float = 10.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """A service.

    Attributes:
        file: path of a Backlit file.
        recipe: how maps become boxes.
        crops: views whose maps are averaged; None: what the recipe wants.
        providers: execution providers that must load, as ``Session`` takes them.
        options: of providers.
        devices: numbers of the GPUs to run on; none: the first.
        threads: within an operator on the CPU; None: chosen.
        batch: views of a run at most; None: 4 on a CPU, 32 on a GPU.
        delay: seconds that a batch waits, at most, for requests that are being decoded.
        workers: processes.
        limits: what one process takes.
        urls: fetch images from addresses of the public internet.
        keys: one of them must come with each request for boxes; none: everybody may ask.
    """

    file: str
    recipe: Recipe
    crops: int | None = None
    providers: str | None = None
    options: Options = dataclasses.field(default_factory=dict)
    devices: tuple[int, ...] = ()
    threads: int | None = None
    batch: int | None = None
    delay: float = 0.005
    workers: int = 1
    limits: Limits = dataclasses.field(default_factory=Limits)
    urls: bool = False
    keys: frozenset[str] = dataclasses.field(default=frozenset(), repr=False)


def read_keys(path: Path) -> frozenset[str]:
    """The keys in a file, one on each line; empty lines and those that begin with # are none.

    Raises:
        OptionError: it cannot be read, or a key is short or not ASCII.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} cannot be read: {error}.", "give a file of keys.") from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise OptionError(f"{path} has no key.", "put one on a line: openssl rand -hex 32.")
    for number, key in enumerate(keys, 1):
        if len(key) < _SHORTEST or not (key.isascii() and key.isprintable()) or " " in key:
            raise OptionError(
                f"key {number} of {path} is none: {_SHORTEST} characters of ASCII are the least.",
                "make one by openssl rand -hex 32.",
            )
    return frozenset(keys)


_SHORTEST = 16


def parse_devices(text: str) -> tuple[int, ...]:
    """``0,1`` as the numbers of GPUs.

    Raises:
        OptionError: not numbers, or one comes twice.
    """
    parts: Sequence[str] = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise OptionError(f"--device {text} is no list of GPUs.", "give their numbers: 0,1.")
    return tuple(map(int, parts))

"""Bytes that were cut, flipped, repeated or joined; values that a field may be given."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

TEXTS = (
    "", " ", "\x00", "a\x00b", "\x1b[2J\x1b]0;owned\x07", "a\nb", "\r\nerror: forged",
    "\u202egnp.exe", "é" * 300, "x" * 100_000, "=1+1", "../../etc/passwd", "/dev/zero",
    "<script>alert(1)</script>", "%s%n", "{0.__class__}", "\ud800", "\ufeff", "\U0001f3d4" * 9,
    "-", "--help", "nan", "1e999",
)  # fmt: skip
INTEGERS = (
    0, 1, -1, 2, -2, 3, 7, 127, 255, 256, 1000, 3841, 65_535, 96_000, 1 << 20, (1 << 31) - 1,
    1 << 31, -(1 << 31), 1 << 40, (1 << 62) + 1, (1 << 63) - 1, -(1 << 63),
)  # fmt: skip
FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 0.001, 1e-9, 1e-45, 5e-324, 1e9, 3.5e38, 1.7e308,
    float("inf"), float("-inf"), float("nan"),
)  # fmt: skip


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A file's bytes after one of the ways in which files are damaged."""
    made = bytearray(data)
    at = rng.randrange(max(len(made), 1))
    way = rng.randrange(8)
    if way == 0:
        return bytes(made[:at])
    if way == 1:
        return bytes(made[at:])
    if way == 2:
        return bytes(made) + rng.randbytes(rng.choice((1, 9, 4000)))
    if way == 3:
        del made[at : at + rng.choice((1, 2, 64, 1000))]
    elif way == 4:
        made[at:at] = rng.randbytes(rng.choice((1, 2, 64, 1000)))
    elif way == 5:
        made[at : at + 512] = bytes(min(512, len(made) - at))
    elif way == 6:
        other = rng.randrange(max(len(made), 1))
        made[at : at + 64] = made[other : other + 64]
    else:
        # Half of the flips are among the first bytes, where what says how long things are lies.
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            place = (
                rng.randrange(len(made)) if rng.random() < 0.5 else rng.randrange(400) % len(made)
            )
            made[place] ^= 1 << rng.randrange(8)
    return bytes(made)


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value, seldom a likely one."""
    way = rng.randrange(9 if depth < 3 else 6)
    if way == 0:
        return rng.choice((None, True, False))
    if way in (1, 2):
        return rng.choice(TEXTS)
    if way == 3:
        return rng.choice(INTEGERS)
    if way == 4:
        return rng.choice(FLOATS)
    if way == 5:
        return rng.choice((10**400, -(10**30), 10**5000))
    if way == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
    if way == 7:
        return {rng.choice(TEXTS[:9]): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    nested: Any = 0
    for _ in range(rng.choice((2, 30, 200))):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return nested


@contextlib.contextmanager
def long_numbers() -> Iterator[None]:
    """Python writes numbers of any length meanwhile."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(limit)

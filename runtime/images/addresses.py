"""Addresses told from paths. What fetches them is imported when there is one."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether a text begins like an address: two letters and more, a colon, a slash."""
    return _ADDRESS.match(text) is not None


def shown(address: str) -> str:
    """An address in messages: without its data, and without the signature of a signed one."""
    if address[:5].lower() == "data:":
        return f"{address[:20]}..."
    return address if len(address) <= 120 else f"{address.split('?')[0][:120]}..."

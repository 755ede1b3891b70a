"""The commands that run a file. Everything of click and rich is here."""

from .group import COMMANDS, main

__all__ = ["COMMANDS", "main"]

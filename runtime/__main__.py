"""``python -m backlit.runtime`` is ``backlit``."""

from .cli import main

main(prog_name="backlit")

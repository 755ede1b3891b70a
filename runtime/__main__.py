"""``python -m backlit.runtime`` is ``backlit``."""

from .cli.group import main

main(prog_name="backlit")

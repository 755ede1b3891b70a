"""The option ``--overwrite`` of the commands that write files."""

from __future__ import annotations

import click

overwrite_option = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace files that Backlit did not write, too; never what is read.",
)

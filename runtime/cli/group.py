"""The command line: a group whose commands are imported only when they are run.

``backlit --help`` therefore needs click alone. Data goes to stdout, everything for people to
stderr. Exit codes: 0 ok, 1 failed with the fix, 2 usage, 3 verification failed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import logging
import os
import sys
import warnings
from typing import Any

import click

from ..errors import BacklitError, BacklitWarning, OutputError, no_exporter, no_opencv
from ..text import plain
from .voice import Voice, options, say_error

INTERRUPTED = 130
_LOG = logging.getLogger("backlit")


@dataclasses.dataclass(frozen=True)
class Lazy:
    """Where a command is, under its own name: module (relative to this package), line of help."""

    module: str
    help: str


COMMANDS = {
    "demo": Lazy(".demo", "Export the embedded classifier and run it on sample images."),
    "export": Lazy("...export.cli.export", "Turn a classifier into a Backlit file."),
    "verify": Lazy("...export.cli.export", "Check a file's gradient; reasons to trust its maps."),
    "check": Lazy("...export.cli.check", "Say whether a GPU takes a file whole."),
    "ops": Lazy("...export.cli.export", "List the operators that can be differentiated."),
    "info": Lazy(".info", "Show what a Backlit file says about itself."),
    "saliency": Lazy(".saliency", "Show where the classifier looked."),
    "localize": Lazy(".localize", "Find object boxes from where it looked."),
    "visualize": Lazy(".visualize", "Draw what scores highest for a class."),
    "evaluate": Lazy(".evaluate", "Measure its boxes on labelled images."),
    "serve": Lazy(".serve", "Answer photos with boxes, over HTTP."),
    "triton": Lazy(".triton", "Write a model repository for a Triton server."),
    "mlserver": Lazy(".mlserver", "Write a folder that MLServer serves."),
    "build": Lazy(".build", "Build a TensorRT engine ahead of serving."),
    "bench": Lazy("...export.cli.bench", "Compare its time with peers and a forward pass."),
    "doctor": Lazy(".info", "Show what is installed and which providers load."),
}
"""Name -> command, in the order of the help; ``help`` is the command's own short help."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command.

        Raises:
            BacklitError: it needs the export extra, which is not installed.
        """
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        try:
            module = importlib.import_module(lazy.module, __package__)
        except ModuleNotFoundError as error:
            raise no_exporter(f"`backlit {cmd_name}`", error) from error
        command = getattr(module, cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.module}.{cmd_name} is not a command")
        if not any("--quiet" in one.opts for one in command.params):
            command.params.extend(options(hidden=True))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; a misspelt one is an error with a suggestion."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and lines of help, without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors for people become a message on stderr and an exit code."""
        from ..backend.ort import hush  # --help needs no more than this module

        hush()
        with Voice(ctx) as voice:
            voice.obey()
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        show = warnings.showwarning

        def show_ours(
            message: Warning | str, category: type[Warning], *rest: Any, **named: Any
        ) -> None:
            if issubclass(category, BacklitWarning):
                mark = click.style("warning:", fg="yellow", bold=True)
                click.echo(f"{mark} {plain(str(message))}", err=True)
            else:
                show(message, category, *rest, **named)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", BacklitWarning)
                warnings.showwarning = show_ours
                return super().invoke(ctx)
        except BacklitError as error:
            show_error(error)
            ctx.exit(error.exit_code)
        except ModuleNotFoundError as error:
            if error.name != "cv2":
                raise
            show_error(no_opencv())
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except MemoryError:
            show_error(_NO_MEMORY)
            ctx.exit(1)
        except (click.ClickException, click.exceptions.Exit, click.Abort, OSError):
            raise
        except Exception as error:
            _LOG.debug("what was not foreseen", exc_info=error)
            show_error(_unforeseen(error))
            ctx.exit(1)

    def main(self, *args: Any, **named: Any) -> Any:
        """Run the command line; what cannot be written on stdout is an error, exit code 1."""
        closed = _open_streams()
        try:
            if closed:
                raise OutputError(
                    "stdout is closed.",
                    "give results a place, such as > results.jsonl in the shell.",
                )
            try:
                return super().main(*args, **named)
            finally:
                sys.stdout.flush()
        except OutputError as error:
            show_error(error)
        except BrokenPipeError:  # who reads has seen enough
            pass
        except OSError as error:
            reason = f"{error.filename or 'stdout'} cannot be used: {error.strerror or error}."
            show_error(OutputError(reason, "check its rights and free space, or choose another."))
        _forget_stdout()
        sys.exit(1)


_NO_MEMORY = BacklitError(
    "the memory is full.", "use a smaller batch (--batch 1), fewer classes, or smaller images."
)


def _unforeseen(error: Exception) -> BacklitError:
    """The error for what nobody thought of: never a traceback on a user's screen."""
    return BacklitError(
        f"this is a bug in Backlit: {type(error).__name__}: {error}",
        "please report it with the command and what `backlit -vv ...` says.",
    )


def _open_streams() -> bool:
    """Open standard streams that are closed, lest files take their numbers; whether stdout was.

    What a terminal's encoding does not have is spelt out.
    """
    closed = sys.stdout is None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if not closed:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    return closed


def _forget_stdout() -> None:
    """Leave nothing to be written when Python ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_error(error: BacklitError) -> None:
    """``error: problem`` and ``fix: ...`` on stderr."""
    say_error(f"{click.style('error:', fg='red', bold=True)} {plain(error.problem)}")
    say_error(f"  {click.style('fix:', bold=True)} {plain(error.fix)}")


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  backlit demo -o out
  backlit export torchvision:resnet50 -o resnet50.backlit.onnx
  backlit localize resnet50.backlit.onnx photos/*.jpg -o out

Every command answers -h with an example.""",
)
@click.version_option(package_name="backlit", message="%(package)s %(version)s")
def main() -> None:
    """Where does a trained image classifier look? One ONNX file that says so."""


main.params.extend(options())

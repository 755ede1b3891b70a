"""Errors for people: each says what is wrong and ends with the fix.

Library code raises these and nothing prints or exits; the command line turns them into one message
on stderr and the exit code of the class.
"""

from __future__ import annotations

from collections.abc import Iterable


class BacklitError(Exception):
    """Base of every error Backlit raises on purpose.

    Args:
        problem: what is wrong, with names and numbers.
        fix: what to do about it, as an instruction.
    """

    exit_code = 1

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n  fix: {self.fix}"


class ModelError(BacklitError):
    """A model file or object cannot be read or is not what it should be."""


class ContractError(ModelError):
    """The metadata of a Backlit file is missing, damaged or of another schema."""


class UnsupportedOperatorError(ModelError):
    """Operators between image and scores cannot be differentiated."""


class VerificationError(BacklitError):
    """The exported gradient disagrees with the reference."""

    exit_code = 3


class ProviderError(BacklitError):
    """An execution provider that was asked for did not load."""


class ImageError(BacklitError):
    """An image cannot be read."""


class ClassError(BacklitError):
    """A class index or label does not exist."""


class DatasetError(BacklitError):
    """A data set is incomplete, malformed, or does not fit the classifier."""


class OutputError(BacklitError):
    """A result cannot be written."""


class OptionError(BacklitError):
    """Options contradict each other or do not fit the model."""

    exit_code = 2


class BacklitWarning(UserWarning):
    """Something that a run goes on in spite of; the command line shows it on stderr."""


def no_map(name: str, has: Iterable[str]) -> OptionError:
    """The error for a map that a file does not return."""
    return OptionError(
        f"the file returns no {name!r} map; it has: {', '.join(has)}.",
        f"export it with --maps {name}, or with several: --maps saliency,features.",
    )


def no_opencv() -> BacklitError:
    """The error for an installation without OpenCV, which is larger than all the rest together."""
    return BacklitError(
        "boxes, pictures and maps of feature maps need OpenCV, which is not installed.",
        "pip install 'backlit[boxes]' (with saliency -o, --no-pictures does without).",
    )


_EXPORT_PACKAGES = ("onnx", "onnx_ir", "onnxscript", "ml_dtypes")


def no_exporter(what: str, error: ModuleNotFoundError) -> ModuleNotFoundError | BacklitError:
    """The error for an installation without the export extra; any other error as it is.

    Args:
        what: a sentence's subject, what needs the extra: ``backlit.export``.
        error: of an import.
    """
    missing = error.name or ""
    if missing.split(".")[0] in _EXPORT_PACKAGES or missing.startswith("backlit.export"):
        return BacklitError(
            f"{what} needs packages that are not installed: {missing}.",
            "pip install 'backlit[export]'",
        )
    return error

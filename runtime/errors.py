"""Errors for people: each says what is wrong and ends with the fix.

Library code raises these and nothing prints or exits; the command line turns them into one message
on stderr and the exit code of the class.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


class BacklitError(Exception):
    """Base of every error Backlit raises on purpose.

    Examples:
        >>> import backlit
        >>> try:
        ...     backlit.Session("nowhere.onnx")
        ... except backlit.BacklitError as error:
        ...     print(error.problem)
        ...     print(error.exit_code)
        nowhere.onnx does not exist.
        1

    Attributes:
        problem: what is wrong, with names and numbers.
        fix: what to do about it, as an instruction.
        exit_code: of a command that ends with it: 1, 2 for options, 3 for a wrong gradient.

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
    """A model file or object cannot be read or is not what it should be.

    Examples:
        >>> import backlit
        >>> from pathlib import Path
        >>> written = Path("notes.onnx").write_text("no model")
        >>> try:
        ...     backlit.Session("notes.onnx")
        ... except backlit.ModelError as error:
        ...     print(error.problem)
        notes.onnx is not an ONNX file, or it is damaged or truncated.
    """


class ContractError(ModelError):
    """The metadata of a Backlit file is missing, damaged or of another schema.

    Examples:
        >>> import backlit
        >>> try:
        ...     backlit.Session("tiny_convnet.onnx")
        ... except backlit.ContractError as error:
        ...     print(error.fix)
        export it first: backlit export tiny_convnet.onnx -o model.backlit.onnx
    """


class UnsupportedOperatorError(ModelError):
    """Operators between image and scores cannot be differentiated.

    Examples:
        >>> import backlit, onnx
        >>> model = onnx.load("tiny_convnet.onnx")
        >>> for node in model.graph.node:
        ...     if node.op_type == "Relu":
        ...         node.op_type, node.domain = "Swirl", "my.own"
        >>> model.opset_import.extend([onnx.helper.make_opsetid("my.own", 1)])
        >>> try:
        ...     backlit.export(model, "new.backlit.onnx", size=96)
        ... except backlit.UnsupportedOperatorError as error:
        ...     print(error.problem.splitlines()[0])
        no backward rule for these operators between image and scores:
    """


class VerificationError(BacklitError):
    """What the file returns disagrees with its reference, or nothing could be measured.

    Examples:
        >>> import backlit
        >>> try:
        ...     report = backlit.export("tiny_convnet.onnx", "tiny.backlit.onnx")
        ... except backlit.VerificationError as error:
        ...     print(error)
        >>> backlit.VerificationError.exit_code
        3
    """

    exit_code = 3


class ProviderError(BacklitError):
    """An execution provider that was asked for did not load.

    Examples:
        >>> import backlit
        >>> try:
        ...     session = backlit.Session("tiny.backlit.onnx", providers="cuda")
        ... except backlit.ProviderError as error:
        ...     session = backlit.Session("tiny.backlit.onnx", providers="cpu")
        >>> session.provider in ("cuda", "cpu")
        True
    """


class ImageError(BacklitError):
    """An image cannot be read.

    Examples:
        >>> import backlit
        >>> session = backlit.Session("tiny.backlit.onnx")
        >>> try:
        ...     session.saliency("absent.jpg", errors="raise")
        ... except backlit.ImageError as error:
        ...     print(error.problem)
        absent.jpg does not exist.
    """


class ClassError(BacklitError):
    """A class index or label does not exist.

    Examples:
        >>> import backlit
        >>> session = backlit.Session("tiny.backlit.onnx")
        >>> try:
        ...     session.saliency("mug.jpg", classes=99)
        ... except backlit.ClassError as error:
        ...     print(error.problem)
        class 99 is out of range: the file has classes 0 to 11.
    """


class DatasetError(BacklitError):
    """A data set is incomplete, malformed, or does not fit the classifier.

    Raised by ``backlit evaluate``, whose exit code it is.

    Examples:
        >>> import backlit
        >>> backlit.DatasetError.exit_code
        1
    """


class OutputError(BacklitError):
    """A result cannot be written.

    Examples:
        >>> import backlit
        >>> try:
        ...     backlit.export("tiny_convnet.onnx", "mug.jpg/tiny.backlit.onnx")
        ... except backlit.OutputError as error:
        ...     print(error.problem)
        mug.jpg cannot be made: mug.jpg is a file.
    """


class OptionError(BacklitError):
    """Options contradict each other or do not fit the model.

    Examples:
        >>> import backlit
        >>> session = backlit.Session("tiny.backlit.onnx")
        >>> try:
        ...     session.saliency("mug.jpg", map="ig")
        ... except backlit.OptionError as error:
        ...     print(error.fix)
        export it with --maps saliency,features,gradient.
    """

    exit_code = 2


class BacklitWarning(UserWarning):
    """Something that a run goes on in spite of; the command line shows it on stderr.

    Examples:
        >>> import backlit, warnings
        >>> warnings.simplefilter("error", backlit.BacklitWarning)  # or "ignore"
    """


def unwritable(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """The error for what the operating system says of a file to write."""
    reason = error.strerror or str(error)
    return OutputError(
        f"{os.fspath(path)} cannot be written: {reason}.",
        "check its rights and free space, or choose another.",
    )


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


def no_service(error: ModuleNotFoundError) -> ModuleNotFoundError | BacklitError:
    """The error for an installation without the serve extra; any other error as it is."""
    missing = (error.name or "").split(".")[0]
    if missing in ("starlette", "uvicorn", "h11", "python_multipart", "prometheus_client"):
        return BacklitError(
            f"`backlit serve` needs packages that are not installed: {missing}.",
            "pip install 'backlit[serve]'",
        )
    return error


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
    if missing == "onnxruntime":  # the extra export leaves open which of its builds it is
        return BacklitError(
            f"{what} needs ONNX Runtime, which is not installed.",
            "pip install 'backlit[cpu]' (or 'backlit[gpu]').",
        )
    return error

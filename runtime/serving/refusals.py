"""Why a request gets no boxes: errors with an answer's status, and a word for the metrics."""

from __future__ import annotations

from ..errors import BacklitError, ClassError, ImageError, OptionError


class RequestError(BacklitError):
    """The request is not one that the service understands."""

    status = 400
    kind = "request"


class KeyRefusedError(RequestError):
    """It came without one of the keys."""

    status = 401
    kind = "key"


class SlowError(RequestError):
    """Its body did not arrive in time."""

    status = 408
    kind = "slow"


class TooLargeError(RequestError):
    """Its body, or its image, has more bytes than the service takes."""

    status = 413
    kind = "size"


class BusyError(RequestError):
    """There are too many others.

    Attributes:
        retry_after: whole seconds after which it is worth asking again.
    """

    status = 429
    kind = "busy"
    retry_after = 1


class StoppingError(RequestError):
    """The service is being stopped."""

    status = 503
    kind = "stopping"


class LateError(RequestError):
    """There was no answer in time."""

    status = 504
    kind = "late"


class BrokenError(RequestError):
    """A fault of the service itself."""

    status = 500
    kind = "fault"


def meaning(error: BacklitError) -> tuple[int, str]:
    """The status of the answer to a request that ends with an error, and the error's kind."""
    if isinstance(error, RequestError):
        return error.status, error.kind
    for kind, name in ((ImageError, "image"), (ClassError, "class"), (OptionError, "option")):
        if isinstance(error, kind):
            return 422, name
    return 500, "network"


def busy(seconds: float) -> BusyError:
    """The refusal of one request too many, after so many seconds of work."""
    error = BusyError("more requests wait than the service takes.", "ask again a little later.")
    error.retry_after = min(60, max(1, round(seconds)))
    return error


def late() -> LateError:
    """The refusal of a request whose time is over."""
    return LateError("there was no answer in time.", "ask again, or send fewer requests at once.")

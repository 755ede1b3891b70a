"""Images by address: http and https by the standard library, data:, file:, all others by fsspec."""

from __future__ import annotations

import base64
import binascii
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import IO, Any

from ..errors import ImageError
from .addresses import shown
from .reading import opened

SECONDS = 30.0
"""How long a server may be silent; a whole file may take four times as long."""

BYTES = 200_000_000
"""The largest file that is fetched."""

_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("ssh", "sftp"), "paramiko"),
    "hf": "huggingface_hub",
    "smb": "smbprotocol",
    "dropbox": "dropboxdrivefs",
    "github": "requests",
    "oci": "ocifs",
    "oss": "ossfs",
    "wandb": "wandbfs",
}
"""The package that fsspec wants for a kind of address."""


def fetch(address: str) -> bytes:
    """The bytes that an address leads to.

    Raises:
        ImageError: nothing is there, it is too large, it takes too long, or fsspec is missing.
    """
    scheme = address.split(":", 1)[0].lower()
    if scheme == "data":
        return _inline(address)
    if scheme == "file":
        return _local(address)
    if not address[len(scheme) :].startswith("://"):
        raise ImageError(
            f"{shown(address)} is an address that has lost a slash.",
            "pass it as text: Path turns // into /.",
        )
    if scheme in ("http", "https"):
        data = _web(address, _TRUSTED, BYTES, 4 * SECONDS, SECONDS)
    else:
        data = _by_fsspec(address, scheme)
    if not data:
        raise ImageError(f"{shown(address)} is empty.", "check the address.")
    return data


def fetch_public(address: str, most: int, seconds: float) -> bytes:
    """The bytes of an address that a stranger named: of the public internet, by http or https.

    Addresses of this machine and of private networks are refused, however they are named and
    wherever a server redirects to; proxies are not asked.

    Args:
        address: begins with ``http://`` or ``https://``.
        most: bytes of the largest file.
        seconds: that it may take.

    Raises:
        ImageError: as of ``fetch``, or it is no such address.
    """
    if not address.lower().startswith(("http://", "https://")):
        raise ImageError(f"{shown(address)} is not of the web.", "give http://... or https://....")
    from .public import PublicHTTPHandler, PublicHTTPSHandler

    connecting = (PublicHTTPHandler, PublicHTTPSHandler)
    data = _web(address, connecting, most, seconds, min(SECONDS, seconds))
    if not data:
        raise ImageError(f"{shown(address)} is empty.", "check the address.")
    return data


_TRUSTED = (urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler)


def _web(
    address: str,
    connecting: Sequence[type[urllib.request.BaseHandler]],
    most: int,
    seconds: float,
    silence: float,
) -> bytes:
    where = shown(address)
    # No ftp and no file, also where a server redirects.
    handlers = (
        *connecting,
        *(urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor),
        *(urllib.request.HTTPRedirectHandler, urllib.request.UnknownHandler),
    )
    opener = urllib.request.OpenerDirector()
    for handler in handlers:
        opener.add_handler(handler())
    try:
        request = urllib.request.Request(  # noqa: S310  http and https alone, as above
            urllib.parse.quote(address, safe="!#$%&'()*+,/:;=?@[]~"),
            headers={"User-Agent": "backlit", "Accept": "image/*,*/*;q=0.5"},
        )
        with opener.open(request, timeout=silence) as answer:
            return _page_or_bytes(answer, where, most, seconds)
    except urllib.error.HTTPError as error:
        with error:
            problem = f"{where} answers {error.code} {error.reason}".rstrip(" .")
        raise ImageError(f"{problem}.", "check the address, or download it yourself.") from error
    except ImageError:
        raise
    except TimeoutError as error:
        raise _slow(where) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise _slow(where) from error
        said = str(reason) or type(reason).__name__
        raise ImageError(
            f"{where} cannot be fetched: {said.rstrip('.')}.",
            "check the address and the network.",
        ) from error


def _page_or_bytes(answer: Any, where: str, most: int, seconds: float) -> bytes:
    kind = answer.headers.get_content_type()
    if kind == "text/html":
        raise ImageError(
            f"{where} is a web page, not an image.", "give the address of the image itself."
        )
    if kind.startswith("video/"):
        raise ImageError(
            f"{where} is a video.", "download it and give its path, or pass cv2.VideoCapture(it)."
        )
    length = answer.headers.get("Content-Length", "")
    announced = int(length) if length.isdecimal() else 0
    data = _limited(answer, where, most, seconds, announced)
    if length.isdecimal() and len(data) < int(length):
        raise ImageError(f"{where} broke off after {len(data)} of {length} bytes.", "try again.")
    return data


def _limited(
    file: IO[bytes] | Any, where: str, most: int, seconds: float, announced: int = 0
) -> bytes:
    """All of a file, unless it is too large or too slow."""
    until, size = time.monotonic() + seconds, 0
    parts: list[bytes] = []
    while announced <= most and size <= most:
        if time.monotonic() > until:
            raise _slow(where)
        # read1 gives what has come: a server that drips must not hold a read for hours
        part = getattr(file, "read1", file.read)(1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
    raise ImageError(
        f"{where} is larger than {most / 1e6:g} MB.", "download it, and give its path."
    )


def _slow(where: str) -> ImageError:
    return ImageError(f"{where} takes too long.", "try again, or download it and give its path.")


def _by_fsspec(address: str, scheme: str) -> bytes:
    where = shown(address)
    package = _PACKAGES.get(scheme)
    install = "pip install fsspec" + (f" {package}" if package else "")
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise ImageError(f"{where} needs fsspec, which is not installed.", install) from error
    try:
        with fsspec.open(address, "rb") as file:
            return _limited(file, where, BYTES, 4 * SECONDS)
    except ImageError:
        raise
    except ImportError as error:
        raise ImageError(
            f"{where} needs a package that is not installed: {_line(error)}.", install
        ) from error
    except FileNotFoundError as error:
        raise ImageError(f"{where} does not exist.", "check the address.") from error
    except Exception as error:  # every file system has errors of its own
        raise ImageError(
            f"{where} cannot be read: {_line(error)}.",
            "check the address and your credentials.",
        ) from error


def _local(address: str) -> bytes:
    path = urllib.request.url2pathname(urllib.parse.urlsplit(address).path)
    with opened(path, address) as file:
        return _limited(file, address, BYTES, 4 * SECONDS)


def _inline(address: str) -> bytes:
    head, comma, body = address.partition(",")
    text = urllib.parse.unquote_to_bytes(body)
    try:
        data = base64.b64decode(text, validate=True) if head.endswith(";base64") else text
    except (binascii.Error, ValueError) as error:
        raise ImageError(
            f"{shown(address)} is not base64: {error}.", "check that it is whole."
        ) from error
    if not comma or not data:
        raise ImageError(f"{shown(address)} has no data.", "check that it is whole.")
    return data


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")

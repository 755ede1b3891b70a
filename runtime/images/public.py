"""Connections to the public internet alone, for addresses that strangers name.

Which machine a name means is asked once, the answer is checked, and it is that answer which is
connected to: a name that means another machine the next time gains nothing by it. A redirect is a
connection like the first.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import urllib.request
from typing import Any

from ..errors import ImageError


class PublicHTTPHandler(urllib.request.HTTPHandler):
    """``http`` to public machines."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Of urllib."""
        return self.do_open(_Connection, req)


class PublicHTTPSHandler(urllib.request.HTTPSHandler):
    """``https`` to public machines."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Of urllib."""
        return self.do_open(_SecureConnection, req)


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = connected(self.host, self.port, self.timeout)


class _SecureConnection(http.client.HTTPSConnection):
    _context: Any  # of http.client, with the certificates of the system

    def connect(self) -> None:
        plain = connected(self.host, self.port, self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)


def connected(host: str, port: int, timeout: float | None) -> socket.socket:
    """A connection to a host whose every address is public.

    Raises:
        ImageError: an address of it is not.
        OSError: it has none, or does not answer.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not is_public(str(address[0])):
            raise ImageError(
                f"{host} is a machine of a private network, where strangers have no business.",
                "send the image itself.",
            )
    problem = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(timeout)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            problem = error
        else:
            return connection
    raise problem


def is_public(text: str) -> bool:
    """Whether an IP address belongs to one machine of the public internet."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # An IPv4 address in the clothes of IPv6 leads where that leads.
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None:
            return is_public(str(inner))
        if address in _TRANSLATED:
            return is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
    return address.is_global and not address.is_multicast


_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 by NAT64 (RFC 6052)."""


__all__ = ["PublicHTTPHandler", "PublicHTTPSHandler", "connected", "is_public"]

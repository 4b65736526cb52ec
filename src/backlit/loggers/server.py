"""Whether the server of a logger answers."""

import os
import socket
from urllib.parse import urlsplit

_SECONDS = 5


def reach(url: str) -> None:
    """Open a connection to a server and close it; behind a proxy, which knows, do nothing.

    Args:
        url: Its address, ``http://…`` or ``https://…``.

    Raises:
        OSError: If nobody answers within five seconds: the clients of loggers would try for minutes.
        ValueError: If it is no address.
    """
    address = urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")):
        return
    socket.create_connection((address.hostname or "", port), timeout=_SECONDS).close()

"""Target: the service under test, named by an `http://host:port` URL, and a first request that proves it answers.

A workload that the service refuses would be measured as a very fast service with 100 % errors. The probe sends one
real request first and shows what the service says about it.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtest.errors import TargetError, UrlError

PROBE_TIMEOUT_S = 10.0
"""A first request may find cold caches; beyond this the service is not up."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. `base_path` stands before every path and has no slash at its end."""

    host: str
    port: int
    base_path: str = ""

    @classmethod
    def parse(cls, url: str) -> Target:
        """Read an URL such as `http://127.0.0.1:8080`.

        Raises:
            UrlError: not http, no host, a port out of range, or a query or fragment.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UrlError(f"url {url!r}: {error}") from error
        if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment:
            raise UrlError(f"url {url!r}: expected http://HOST:PORT, optionally with a path in front of /v1/rank")
        return cls(parts.hostname, port or 80, parts.path.rstrip("/"))

    @property
    def host_header(self) -> str:
        """Value of the Host header; an IPv6 address stands in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without a slash at its end."""
        return f"http://{self.host_header}{self.base_path}"

    def request(self, path: str, body: bytes) -> bytes:
        """Head and body of a POST of JSON, ready to be written to a connection."""
        head = (
            f"POST {self.base_path}{path} HTTP/1.1\r\nHost: {self.host_header}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What the first answer said about the server."""

    server: str | None
    model_version: str | None


def probe(target: Target, path: str, body: bytes) -> ProbeAnswer:
    """Send one request of the workload and demand a 2xx answer.

    Raises:
        TargetError: nothing listens, no answer in time, or another status; the message shows the answer's beginning.
    """
    connection = http.client.HTTPConnection(target.host, target.port, timeout=PROBE_TIMEOUT_S)
    place = f"POST {target.url}{path}"
    try:
        connection.request("POST", target.base_path + path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise TargetError(f"{place} got no answer: {error or type(error).__name__}; is the service up?") from error
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        shown = content[:500].decode("utf-8", errors="replace")
        raise TargetError(f"{place} answered {response.status} to the workload's first request: {shown}")
    return ProbeAnswer(response.getheader("Server"), response.getheader("X-Model-Version"))

"""The one place where redis-py's errors become ours: all of them for blocking code, their words for the other kind."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_store.errors import StoreDown, StoreTimeout

_WRONG_HOST = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


@contextmanager
def store_errors(shown_url: str) -> Iterator[None]:
    """Inside, a library error leaves as StoreTimeout or StoreDown that names the server."""
    try:
        yield
    except RedisTimeoutError as error:
        raise StoreTimeout(f"{shown_url}: {error}") from None
    except RedisError as error:
        raise StoreDown(described(shown_url, error)) from None


def described(shown_url: str, error: RedisError) -> str:
    """The server, what the library says, and the way out of a TLS connection that cannot be made."""
    cause = error.__cause__ or error.__context__
    said = f"{shown_url}: {error}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in _WRONG_HOST:
            return f"{said} Connect by a name that the server's certificate has."
        return f"{said} Name the authority that signed the server's certificate: rediss://…?ssl_ca_certs=FILE"
    if isinstance(cause, FileNotFoundError) and shown_url.startswith("rediss:"):
        return f"{said}; a file that the URL names (ssl_ca_certs, ssl_certfile, ssl_keyfile) is not there"
    return said

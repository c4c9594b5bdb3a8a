"""The one place where redis-py's errors become ours: all of them for blocking code, their words for the other kind."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import MovedError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_store.errors import StoreDown, StoreTimeout

_WRONG_HOST = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_WAYS_OUT = (
    ("MOVED ", "This server is a node of a Cluster: write redis+cluster://"),
    ("cluster support disabled", "This server is none of a Cluster: write redis://"),
    ("no permissions", "Give the user the rights that docs/redis.md lists for it"),
    ("No permissions", "Give the user the rights that docs/redis.md lists for it"),
    (
        "No master found",
        "Name Sentinels that run, and the master as they do (SENTINEL MASTERS); their password, if they "
        "want one, is ?sentinel_password=…",
    ),
    ("invalid username-password", "Write user and password into the URL: redis://USER:PASSWORD@HOST"),
    ("WRONGPASS", "Write user and password into the URL: redis://USER:PASSWORD@HOST"),
    ("Authentication required", "Write user and password into the URL: redis://USER:PASSWORD@HOST"),
    ("certificate required", "Show a certificate that the server knows: ?ssl_certfile=FILE&ssl_keyfile=FILE"),
    ("unknown command", "Is this a Sentinel? Then write redis+sentinel://HOST:PORT/SERVICE"),
    ("READONLY", "This server is a replica: name its master, or its Sentinels"),
    ("Connection refused", "Is it running there? REDIS_URL names another; docs/redis.md has examples"),
    ("Name or service not known", "Is the host right? REDIS_URL names another; docs/redis.md has examples"),
    (
        "No such file or directory",
        "Is it running, with that socket? REDIS_URL names another; docs/redis.md has examples",
    ),
)
"""What a server or the library says, and what to do about it."""


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
    if isinstance(cause, FileNotFoundError) and shown_url.startswith("rediss"):
        return f"{said}; a file that the URL names (ssl_ca_certs, ssl_certfile, ssl_keyfile) is not there"
    moved = "MOVED " if isinstance(error, MovedError) else ""  # redis-py keeps only what follows it
    way_out = next((way_out for sign, way_out in _WAYS_OUT if sign in moved + str(error)), "")
    return f"{said}{'' if said.endswith('.') else '.'} {way_out}" if way_out else said

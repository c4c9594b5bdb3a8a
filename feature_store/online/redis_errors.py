"""The one place where redis-py's errors become ours: all of them for blocking code, their words for the other kind."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import MovedError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_store.errors import StoreDown, StoreTimeout

_WRONG_HOST = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_ELSEWHERE = "{named_by} names another; docs/redis.md has examples"
NAMED_BY = "clickserve.toml or REDIS_URL"
"""What names the server; a command with an option for it says so where it opens the store."""
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
    ("invalid username-password", "Correct user and password in the URL: redis://USER:PASSWORD@HOST, percent-encoded"),
    ("WRONGPASS", "Correct user and password in the URL: redis://USER:PASSWORD@HOST, percent-encoded"),
    ("Authentication required", "Write user and password into the URL: redis://USER:PASSWORD@HOST"),
    ("without any password configured", "This server has no password: leave it out of the URL, or give it one there"),
    ("DB index is out of range", "This server has no database of that number: name a smaller one, or none, in the URL"),
    ("certificate required", "Show a certificate that the server knows: ?ssl_certfile=FILE&ssl_keyfile=FILE"),
    ("unknown command 'SENTINEL'", "This server is no Sentinel: write redis://, or name the Sentinels and their port"),
    ("unknown command", "Is this a Sentinel? Then write redis+sentinel://HOST:PORT/SERVICE"),
    ("READONLY", "This server is a replica: name its master, or its Sentinels"),
    ("Connection refused", f"Is it running there? {_ELSEWHERE}"),
    ("Name or service not known", f"Is the host right? {_ELSEWHERE}"),
    ("No such file or directory", f"Is it running, with that socket? {_ELSEWHERE}"),
)
"""What a server or the library says, and what to do about it."""
_NO_TLS_THERE = "Does that port speak TLS? If it does not, write redis:// without the second s"
_OVER_TLS = (
    ("Timeout connecting", _NO_TLS_THERE),  # a plain server waits for the line's end in a TLS greeting
    ("WRONG_VERSION_NUMBER", _NO_TLS_THERE),
    ("RECORD_LAYER_FAILURE", _NO_TLS_THERE),
    ("record layer failure", _NO_TLS_THERE),
)
_IN_PLAIN = (
    ("Timeout connecting", f"Does a firewall stand between? Or {_ELSEWHERE}"),
    ("Connection closed by server", "Does it want TLS? Then write rediss://; or it went away just now"),
    ("Connection reset by peer", "Does it want TLS? Then write rediss://; or it went away just now"),
)
"""The same words mean another thing with TLS and without."""

_NO_MASTER = re.compile(r"(?P<said>No master found for .*?) : <(?P<sentinels>.*)", re.DOTALL)
"""How redis-py lists the Sentinels that gave it no answer: each with all of its objects and settings."""
_OF_A_SENTINEL = re.compile(r"> - (?:\w+:)?(\w+)")
_IN_WORDS = {
    "ConnectionError": "no connection",
    "TimeoutError": "no answer in time",
    "AuthenticationError": "refused us",
}


@contextmanager
def store_errors(shown_url: str, named_by: str = NAMED_BY) -> Iterator[None]:
    """Inside, a library error leaves as StoreTimeout or StoreDown that names the server and the way out.

    Args:
        named_by: what names the server where the store is used, as it ends "… names another".
    """
    try:
        yield
    except RedisError as error:
        kind = StoreTimeout if isinstance(error, RedisTimeoutError) else StoreDown
        raise kind(described(shown_url, error, named_by), way_out=way_out(shown_url, error, named_by)) from None


def described(shown_url: str, error: RedisError, named_by: str = NAMED_BY) -> str:
    """The server, what the library says, and the way out where there is one."""
    said, advice = f"{shown_url}: {_words(error)}", way_out(shown_url, error, named_by)
    if not advice:
        return said
    return f"{said}{'' if said.endswith(('.', '?')) else '.'} {advice}"


def _words(error: RedisError) -> str:
    """What the library says; of the Sentinels that it lists, only what became of them, each kind once."""
    found = _NO_MASTER.match(str(error))
    if found is None:
        return str(error)
    kinds = [_IN_WORDS.get(kind, kind) for kind in dict.fromkeys(_OF_A_SENTINEL.findall(found["sentinels"]))]
    return f"{found['said']} (Sentinels: {', '.join(kinds) or 'no answer'})"


def way_out(shown_url: str, error: BaseException, named_by: str = NAMED_BY) -> str:
    """What to do about it, in one sentence without a full stop; empty where nothing is known."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, RedisError) and (advice := way_out(shown_url, cause, named_by)):
        return advice  # of the node of a Cluster that was asked last
    is_tls = shown_url.startswith("rediss")
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in _WRONG_HOST:
            return "Connect by a name that the server's certificate has"
        return "Name the authority that signed the server's certificate: rediss://…?ssl_ca_certs=FILE"
    if isinstance(cause, FileNotFoundError) and is_tls:
        return "A file that the URL names (ssl_ca_certs, ssl_certfile, ssl_keyfile) is not there"
    moved = "MOVED " if isinstance(error, MovedError) else ""  # redis-py keeps only what follows it
    ways_out = _WAYS_OUT + (_OVER_TLS if is_tls else _IN_PLAIN)
    advice = next((advice for sign, advice in ways_out if sign in moved + str(error)), "")
    return advice.replace("{named_by}", named_by)

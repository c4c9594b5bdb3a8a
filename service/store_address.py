"""Where the online store of a batch job is: the configured Redis, or the embedded server for that long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from feature_store.online.embedded import EmbeddedServer
from service.settings import Settings


@contextmanager
def store_url(settings: Settings) -> Iterator[str]:
    """The configured Redis; where none is named, the embedded server, started for this job unless it runs already.

    Raises:
        EmbeddedServerError: the embedded server does not start.
    """
    if settings.redis.url:
        yield settings.redis.url
        return
    with EmbeddedServer(settings.redis.embedded_dir) as server:
        yield server.url

"""Reading an item catalogue from Redis: everything once, then what changed.

Blocking, and safe to call from a worker thread: while serving, the event loop must not wait for a million rows.
A reader that finds a gap in the change stream, or another version, loads again.
"""

from __future__ import annotations

from functools import partial

from feature_store.errors import CodecError, StoreError, ViewNotMaterialized
from feature_store.online.blocking_client import BlockingClient, blocking_client
from feature_store.online.catalogue_version import CatalogueHead, read_changes, read_chunks, read_head
from feature_store.online.codec import decode_rows
from feature_store.online.layout import ViewKeys, view_prefix, views_key
from feature_store.online.redis_address import shown_url
from feature_store.online.redis_errors import NAMED_BY, store_errors
from feature_store.online.redis_url import understood
from feature_store.online.store import CataloguePosition, CatalogueRows, ViewState
from feature_store.online.view_meta import state_from_fields
from feature_store.rows import Rows
from feature_store.schema import FeatureView

LOAD_ATTEMPTS = 3
"""A load that lasts longer than the grace of old chunks starts again, but not for ever."""


class RedisCatalogue:
    """`CatalogueReader` of one project on one Redis or Valkey server."""

    def __init__(self, url: str, project: str, *, timeout_ms: float = 10_000.0, named_by: str = NAMED_BY) -> None:
        """Checks the URL; the first read connects. Each command may take `timeout_ms`. `named_by`: `store_errors`."""
        self._client = blocking_client(url, timeout_ms=timeout_ms)
        self._store_errors = partial(store_errors, shown_url(url), named_by)
        self._project = project
        self._origin = f"{understood(url).identity} {project}"

    @property
    def origin(self) -> str:
        """See `CatalogueReader.origin`."""
        return self._origin

    def states(self) -> list[ViewState]:
        """See `CatalogueReader.states`; ordered by view name, then by age."""
        with self._store_errors():
            states = read_states(self._client, self._project)
        return sorted(states, key=lambda state: (state.view, state.started_ms))

    def load(self, view: FeatureView) -> CatalogueRows:
        """See `CatalogueReader.load`."""
        keys = ViewKeys(self._project, view)
        with self._store_errors():
            for _ in range(LOAD_ATTEMPTS):
                head = self._head(view, keys)
                try:
                    return self._load_version(view, keys, head)
                except CodecError:
                    if read_head(self._client, keys) == head:  # not overtaken by a newer version: really damaged
                        raise
        raise StoreError(
            f"view {view.name!r}: its catalogue was replaced {LOAD_ATTEMPTS} times while it was being read"
        )

    def changes(self, view: FeatureView, since: CataloguePosition) -> CatalogueRows | None:
        """See `CatalogueReader.changes`."""
        keys = ViewKeys(self._project, view)
        with self._store_errors():
            head = self._head(view, keys)
            try:
                changed = read_changes(self._client, view, keys, head, since)
            except CodecError:
                return None
        newest = dict(changed)
        position = CataloguePosition(head.version, head.n_changes)
        return CatalogueRows(position, list(newest), decode_rows(view, list(newest.values())))

    def close(self) -> None:
        """Gives connections back."""
        self._client.close()

    def _head(self, view: FeatureView, keys: ViewKeys) -> CatalogueHead:
        head = read_head(self._client, keys)
        if head is None or self._client.hget(keys.meta, "fingerprint") != view.fingerprint.encode():
            raise ViewNotMaterialized(not_materialized(view, read_states(self._client, self._project)))
        return head

    def _load_version(self, view: FeatureView, keys: ViewKeys, head: CatalogueHead) -> CatalogueRows:
        newest = dict(read_changes(self._client, view, keys, head, CataloguePosition(head.version, 0)))
        entity_ids: list[str] = []
        rows: list[Rows] = []
        for ids, of_chunk in read_chunks(self._client, view, keys, head):
            if not newest.keys().isdisjoint(ids):
                kept = [row for row, text in enumerate(ids) if text not in newest]
                ids, of_chunk = [ids[row] for row in kept], of_chunk.take(kept)
            entity_ids += ids
            rows.append(of_chunk)
        changed = {text: value for text, value in newest.items() if value is not None}
        entity_ids += changed
        rows.append(decode_rows(view, list(changed.values())))
        return CatalogueRows(CataloguePosition(head.version, head.n_changes), entity_ids, Rows.concatenate(view, rows))


def read_states(client: BlockingClient, project: str) -> list[ViewState]:
    """State of every view that the project's set lists."""
    states = []
    for member in client.smembers(views_key(project)):
        view, fingerprint = member.decode().rsplit(":", 1)
        fields = client.hgetall(view_prefix(project, view, fingerprint) + b"@meta")
        if fields:
            states.append(state_from_fields(fields))
    return states


def not_materialized(view: FeatureView, states: list[ViewState]) -> str:
    """What to tell somebody who wants a view that the store does not hold."""
    others = [state.fingerprint[:8] for state in states if state.view == view.name and state.finished_ms is not None]
    held = f"it holds the fingerprints {', '.join(sorted(others))}" if others else "it holds no rows of that view"
    return (
        f"view {view.name!r} with fingerprint {view.fingerprint[:8]} is not in the online store; {held}. "
        "Materialize the view as it is defined now, or serve a model that was trained on the stored one"
    )


def require_materialized(views: tuple[FeatureView, ...], states: list[ViewState]) -> None:
    """Passes if every view has finished rows under exactly its fingerprint.

    Raises:
        ViewNotMaterialized: names the first view that has not, and what the store holds instead.
    """
    finished = {state.fingerprint for state in states if state.finished_ms is not None}
    for view in views:
        if view.fingerprint not in finished:
            raise ViewNotMaterialized(not_materialized(view, states))

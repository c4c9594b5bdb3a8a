"""Looking into a project's rows and taking them away: `features inspect`, `prune` and `delete`.

Works from what the store itself remembers, without the project's files: every view's definition lies beside its rows.
Nothing here blocks the server: keys are found by SCAN in small steps, and UNLINK frees their memory in the background.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import msgspec

from feature_store.clock import Clock, system_clock
from feature_store.errors import CodecError
from feature_store.ids import MISSING_ID
from feature_store.ids import entity_id as checked_id
from feature_store.online.blocking_client import BlockingClient, blocking_client
from feature_store.online.catalogue import read_states
from feature_store.online.catalogue_version import read_head
from feature_store.online.catalogue_writer import CataloguePublisher
from feature_store.online.codec import decode_rows
from feature_store.online.layout import ViewKeys, starting_with, view_prefix, views_key
from feature_store.online.redis_address import shown_url
from feature_store.online.redis_errors import NAMED_BY, store_errors
from feature_store.online.redis_writer import LOCK_TTL_MS
from feature_store.online.store import ViewState
from feature_store.online.view_meta import view_from_definition
from feature_store.online.writer_lock import WriterLock
from feature_store.rows import Rows
from feature_store.schema import EntityName, FeatureView

KEYS_PER_STEP = 1_000
FeatureValue = float | int | None | Sequence[float | int | None]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One entity in one view, for a person to read."""

    view: str
    fingerprint: str
    key: str
    found: bool
    event_time_ms: int | None
    expires_ms: int | None
    features: dict[str, FeatureValue]
    """Numbers and hashes as stored, None for missing; the view's defaults where there is no row."""


@dataclass(frozen=True, slots=True)
class PrunedView:
    """A view with a meaning that nobody asks for any more."""

    view: str
    fingerprint: str
    keys: int
    """How many keys it has, or had."""


class RedisAdmin:
    """One project on one Redis or Valkey server. Also an `EntityEraser`."""

    def __init__(self, url: str, project: str, clock: Clock = system_clock, *, named_by: str = NAMED_BY) -> None:
        """Checks the URL; the first command connects. `named_by`: see `store_errors`."""
        self._client: BlockingClient = blocking_client(url)
        self._store_errors = partial(store_errors, shown_url(url), named_by)
        self._project = project
        self._clock = clock

    def inspect(self, entity: EntityName, entity_id: str) -> list[StoredRow]:
        """The entity's row in every stored view of its kind, views by name.

        Raises:
            EntityIdError: not an id.
            CodecError: a stored row or definition is damaged.
        """
        text = checked_id(entity_id)
        with self._store_errors():
            views = sorted(self._views(entity), key=lambda view: (view.name, view.fingerprint))
            keys = [ViewKeys(self._project, view).row(text) for view in views]
            values = self._client.mget(keys) if keys else []
        return [
            _stored_row(view, key, decode_rows(view, [value]))
            for view, key, value in zip(views, keys, values, strict=True)
        ]

    def prune(self, keep: Collection[str], *, dry_run: bool) -> list[PrunedView]:
        """Removes every view of the project whose fingerprint is not in `keep`; counts only, in a dry run.

        Raises:
            WriterBusy: one of them is being written.
        """
        with self._store_errors():
            doomed = [state for state in read_states(self._client, self._project) if state.fingerprint not in keep]
            return [self._prune(state, dry_run=dry_run) for state in doomed]

    def delete(self, entity: EntityName, entity_id: str) -> list[str]:
        """Erases the entity from every stored view of its kind, whatever its fingerprint; names the views that had it.

        Raises:
            EntityIdError: not an id.
            WriterBusy: one of the views is being written.
        """
        with self._store_errors():
            views = self._views(entity)
        return [view.name for view in views if self.delete_entity(view, entity_id)]

    def delete_entity(self, view: FeatureView, entity_id: str) -> bool:
        """See `EntityEraser.delete_entity`. An item's bytes leave the catalogue with the grace of its old chunks."""
        text = checked_id(entity_id)
        keys = ViewKeys(self._project, view)
        with self._store_errors(), WriterLock(self._client, keys.lock, view.name, LOCK_TTL_MS) as lock:
            existed = self._client.delete(keys.row(text)) > 0
            if view.entity == "ad" and read_head(self._client, keys) is not None:
                CataloguePublisher(self._client, view, keys, self._clock, lock).publish(rewrite=True)
        return existed

    def close(self) -> None:
        """Gives connections back."""
        self._client.close()

    def _views(self, entity: EntityName) -> list[FeatureView]:
        """Every stored view of that kind, as it was defined when it was written."""
        views = [_defined_view(state) for state in read_states(self._client, self._project)]
        return [view for view in views if view.entity == entity]

    def _prune(self, state: ViewState, *, dry_run: bool) -> PrunedView:
        prefix = view_prefix(self._project, state.view, state.fingerprint)
        if dry_run:
            return PrunedView(state.view, state.fingerprint, sum(1 for _ in self._keys_of(prefix)))
        with WriterLock(self._client, prefix + b"@lock", state.view, LOCK_TTL_MS) as lock:
            n_keys = 0
            for step in _steps(self._keys_of(prefix)):
                n_keys += self._client.unlink(*step)
                lock.renew()
            self._client.srem(views_key(self._project), f"{state.view}:{state.fingerprint}")
        return PrunedView(state.view, state.fingerprint, n_keys)

    def _keys_of(self, prefix: bytes) -> Iterator[bytes]:
        """All keys of a view but the lock of whoever is at work; SCAN may name one twice, unlinking counts it once."""
        keys = self._client.scan_iter(match=starting_with(prefix), count=KEYS_PER_STEP)
        return (key for key in keys if key != prefix + b"@lock")


def _steps(keys: Iterator[bytes]) -> Iterator[list[bytes]]:
    """The keys in groups; `itertools.batched` needs Python 3.12."""
    while step := list(islice(keys, KEYS_PER_STEP)):
        yield step


def _defined_view(state: ViewState) -> FeatureView:
    try:
        return view_from_definition(state.definition)
    except msgspec.DecodeError as error:
        raise CodecError(
            f"view {state.view!r} with fingerprint {state.fingerprint[:8]} was written by another version of "
            f"clickserve and cannot be explained: {error}; prune it"
        ) from None


def _stored_row(view: FeatureView, key: bytes, rows: Rows) -> StoredRow:
    found = bool(rows.found[0])
    event_time_ms = int(rows.event_time_ms[0]) if found else None
    return StoredRow(
        view=view.name,
        fingerprint=view.fingerprint,
        key=key.decode(),
        found=found,
        event_time_ms=event_time_ms,
        expires_ms=None if event_time_ms is None else event_time_ms + view.ttl_ms,
        features=_features(view, rows),
    )


def _features(view: FeatureView, rows: Rows) -> dict[str, FeatureValue]:
    """The row's values under the names of the view's features."""
    numbers = iter(None if math.isnan(value) else value for value in rows.floats[0].tolist())
    hashes = iter(None if value == MISSING_ID else value for value in rows.ids[0].tolist())
    features: dict[str, FeatureValue] = {}
    for feature in view.features:
        values = list(islice(numbers if feature.dtype == "float32" else hashes, feature.width))
        features[feature.name] = values[0] if feature.width == 1 else values
    return features

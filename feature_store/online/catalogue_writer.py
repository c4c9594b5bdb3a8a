"""Publishing an item view: a list of all its items, because the keys of Redis cannot be listed.

A catalogue is a numbered *version* made of chunks, plus a stream of single rows changed since. The rows themselves are
the truth: publication reads back what is stored, so a publisher never spreads a row that lost against a newer one.
- Some changed items go to the stream, whose entries are numbered `<version>-1, -2, ...`: a reader sees a gap at once.
- A stream that has grown long is written out as a new version: chunks under keys that carry the new number, then the
  flip of one key. It says where the old one ended, and the old entries stay for one version more: a reader that
  followed goes on without loading anything. As the stream may grow with the catalogue, a change costs a publisher two
  rows on average, however many items there are.
- Most items at once, or a version that is not whole, make a new version that all readers load.
A reader in the middle of the old version is not disturbed: its chunks expire only after a grace. New chunks carry an
expiry until just before the flip, so a publisher that is killed leaves nothing behind.
Versions are milliseconds of the clock, made to grow: a server that lost its data can never re-use a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from feature_store.clock import Clock
from feature_store.errors import CodecError
from feature_store.online.blocking_client import BlockingClient
from feature_store.online.catalogue_version import (
    CatalogueEnd,
    CatalogueHead,
    last_sequence,
    read_changes,
    read_chunks,
    read_head,
)
from feature_store.online.chunk import CHUNK_ROWS, encode_chunk
from feature_store.online.layout import ViewKeys
from feature_store.online.store import CataloguePosition
from feature_store.online.writer_lock import WriterLock
from feature_store.schema import FeatureView

MIN_LONG_STREAM = 4_096
"""A version's stream may grow to so many changes, or to half as many as the version has items, before it is written
out."""
OLD_CHUNKS_GRACE_MS = 10 * 60_000
"""How long a reader may take for an old version."""
UNPUBLISHED_TTL_MS = 60 * 60_000
"""When chunks of a publisher that was killed are gone."""


class CataloguePublisher:
    """Makes what a session wrote, or an erasure removed, known to all readers. The caller holds the view's lock."""

    def __init__(
        self, client: BlockingClient, view: FeatureView, keys: ViewKeys, clock: Clock, lock: WriterLock
    ) -> None:
        self._client = client
        self._view = view
        self._keys = keys
        self._clock = clock
        self._lock = lock

    def publish(self, *, rewrite: bool = False) -> None:
        """Publishes all pending items.

        Args:
            rewrite: make a new version even for few changes, so that no chunk keeps the bytes of an erased row.
        """
        pending = self._pending()
        head = read_head(self._client, self._keys)
        if head is None or rewrite or len(pending) > _long_stream(head) or not self._is_whole(head):
            self._publish_version(head, pending, continues=None)
        else:
            head = self._publish_changes(head, pending)
            if head.n_changes > _long_stream(head):
                self._publish_version(head, [], continues=CatalogueEnd(head.version, head.n_changes))
        self._client.delete(self._keys.pending)

    def _pending(self) -> list[str]:
        """Items written since the last publication, each once."""
        batches = self._client.lrange(self._keys.pending, 0, -1)
        return list(dict.fromkeys(text for batch in batches for text in batch.decode().split("\n")))

    def _is_whole(self, head: CatalogueHead) -> bool:
        """Whether a version still has all its chunks and changes; a full server may have evicted them."""
        chunks = self._keys.chunks(head.version, head.n_chunks)
        n_stored = last_sequence(self._client, self._keys, head.version)
        return n_stored >= head.n_changes and (not chunks or self._client.exists(*chunks) == len(chunks))

    def _publish_changes(self, head: CatalogueHead, entity_ids: Sequence[str]) -> CatalogueHead:
        """Adds one entry an item and then counts them in; an empty row says that the item is gone."""
        n_stored = last_sequence(self._client, self._keys, head.version)
        for start in range(0, len(entity_ids), CHUNK_ROWS):
            self._lock.renew()
            pipeline = self._client.pipeline(transaction=False)
            some = self._stored(entity_ids[start : start + CHUNK_ROWS])
            for number, (entity_id, value) in enumerate(some, n_stored + start + 1):
                pipeline.xadd(self._keys.changes, {"id": entity_id, "row": value or b""}, id=f"{head.version}-{number}")
            pipeline.execute()
        head = msgspec.structs.replace(head, n_changes=n_stored + len(entity_ids))
        self._client.set(self._keys.catalogue, msgspec.json.encode(head))
        return head

    def _publish_version(
        self, old: CatalogueHead | None, entity_ids: Sequence[str], continues: CatalogueEnd | None
    ) -> None:
        """Writes all items of the old version and the new ones that still have a row, then flips."""
        now_ms = self._clock()
        version = now_ms if old is None else max(now_ms, old.version + 1)
        known = [] if old is None else self._known(old)
        n_chunks, n_rows = 0, 0
        chunk_ids: list[str] = []
        chunk_values: list[bytes] = []
        for entity_id, value in self._stored(list(dict.fromkeys([*known, *entity_ids]))):
            if value is None:
                continue
            chunk_ids.append(entity_id)
            chunk_values.append(value)
            n_rows += 1
            if len(chunk_ids) == CHUNK_ROWS:
                self._write_chunk(version, n_chunks, chunk_ids, chunk_values)
                n_chunks += 1
                chunk_ids, chunk_values = [], []
        if chunk_ids:
            self._write_chunk(version, n_chunks, chunk_ids, chunk_values)
            n_chunks += 1
        self._flip(old, CatalogueHead(version, n_chunks, n_rows, now_ms, continues=continues))

    def _write_chunk(self, version: int, number: int, entity_ids: Sequence[str], values: Sequence[bytes]) -> None:
        self._lock.renew()
        chunk = encode_chunk(self._view, entity_ids, values)
        self._client.set(self._keys.chunk(version, number), chunk, px=UNPUBLISHED_TTL_MS)

    def _flip(self, old: CatalogueHead | None, new: CatalogueHead) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for key in self._keys.chunks(new.version, new.n_chunks):
            pipeline.persist(key)
        pipeline.set(self._keys.catalogue, msgspec.json.encode(new))
        if new.continues is None:
            pipeline.delete(self._keys.changes)
        else:
            pipeline.xtrim(self._keys.changes, minid=f"{new.continues.version}-1", approximate=False)
        if old is not None:
            for key in self._keys.chunks(old.version, old.n_chunks):
                pipeline.pexpire(key, OLD_CHUNKS_GRACE_MS)
        pipeline.execute()

    def _known(self, head: CatalogueHead) -> list[str]:
        """Items of a version and of its changes. A damaged version is mended by looking through all keys instead."""
        try:
            chunks = read_chunks(self._client, self._view, self._keys, head)
            changes = read_changes(self._client, self._view, self._keys, head, CataloguePosition(head.version, 0))
            return [text for ids, _ in chunks for text in ids] + [entity_id for entity_id, _ in changes]
        except CodecError:
            keys = self._client.scan_iter(match=self._keys.any_row, count=1_000)
            return [self._keys.entity_id(key) for key in keys]

    def _stored(self, entity_ids: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Each item with the row that Redis holds now."""
        for start in range(0, len(entity_ids), CHUNK_ROWS):
            part = entity_ids[start : start + CHUNK_ROWS]
            yield from zip(part, self._client.mget(self._keys.rows(part)), strict=True)


def _long_stream(head: CatalogueHead) -> int:
    """Changes that are worth writing the version out."""
    return max(MIN_LONG_STREAM, head.n_rows // 2)

"""The keys of the online store, as bytes. `docs/redis-layout.md` is the specification; this is its only spelling.

A row's key is `cs:<project>:<view>:<fingerprint, 8 hex>:{<entity id>}`. The braces are Redis Cluster's hash tag, so all
views of one entity lie in one slot and one MGET reads them. Keys of a whole view end in `:@<what>`: entity ids stand in
braces and hold none, so the two kinds can never meet. Eight hex digits keep keys short; the view's meta holds all 64,
and a writer refuses to write under a fingerprint that shares only the first 8.
Pure: text in, bytes out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from feature_store.schema import FeatureView

FINGERPRINT_DIGITS = 8


def views_key(project: str) -> bytes:
    """A set of `<view>:<fingerprint, 64 hex>`: every view that was ever written and not pruned since."""
    return f"cs:{project}:@views".encode()


def view_prefix(project: str, view: str, fingerprint: str) -> bytes:
    """What all keys of one view with one meaning start with, colon included."""
    return f"cs:{project}:{view}:{fingerprint[:FINGERPRINT_DIGITS]}:".encode()


class ViewKeys:
    """The keys of one view of one project. Built once, because a request makes a key per view."""

    __slots__ = ("_row_head", "any_row", "catalogue", "changes", "lock", "meta", "pending", "prefix")

    def __init__(self, project: str, view: FeatureView) -> None:
        self.prefix = view_prefix(project, view.name, view.fingerprint)
        self._row_head = self.prefix + b"{"
        self.any_row = starting_with(self._row_head)
        """Pattern of `SCAN … MATCH` for all rows of the view."""
        self.meta = self.prefix + b"@meta"
        """Hash: full fingerprint, definition, watermark, counts, times (`view_meta.py`)."""
        self.lock = self.prefix + b"@lock"
        """Text: who is writing the view. Expires by itself."""
        self.catalogue = self.prefix + b"@catalogue"
        """JSON: which version of the item catalogue holds, flipped after its chunks are written."""
        self.changes = self.prefix + b"@changes"
        """Stream: item rows changed since that version."""
        self.pending = self.prefix + b"@pending"
        """List: items written by a session that has not been published yet, one entry a batch."""

    def row(self, entity_id: str) -> bytes:
        """Key of one entity's row; the id has passed `ids.entity_id`."""
        return b"%b%b}" % (self._row_head, entity_id.encode())

    def rows(self, entity_ids: Sequence[str]) -> list[bytes]:
        """Keys of many rows, in order."""
        head = self._row_head
        return [b"%b%b}" % (head, entity_id.encode()) for entity_id in entity_ids]

    def chunk(self, version: int, number: int) -> bytes:
        """Key of one piece of a catalogue version.

        The version is part of the key, so that a reader in the middle of an older version never meets rows of a newer
        one: chunks of both exist side by side until the older ones expire.
        """
        return b"%b@chunk:%d:%d" % (self.prefix, version, number)

    def chunks(self, version: int, n_chunks: int) -> list[bytes]:
        """Keys of all pieces of a catalogue version, in order."""
        return [self.chunk(version, number) for number in range(n_chunks)]

    def entity_id(self, row_key: bytes) -> str:
        """The entity id inside a row key of this view."""
        return row_key[len(self._row_head) : -1].decode()


def starting_with(prefix: bytes) -> bytes:
    """Pattern of `SCAN … MATCH` for the keys that start so; a `*` in a project's name means itself."""
    return re.sub(rb"([*?\[\]\\^])", rb"\\\1", prefix) + b"*"

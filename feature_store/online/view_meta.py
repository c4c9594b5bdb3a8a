"""What the store remembers about a view besides its rows, as the fields of one Redis hash.

Plain text fields, so that `redis-cli HGETALL` explains a view to a person.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from feature_store.online.store import ViewState
from feature_store.schema import FeatureView

NO_WATERMARK_MS = -1
"""The watermark of a view that has never been written."""


def definition_json(view: FeatureView) -> str:
    """The view as canonical JSON: enough to decode and explain its rows."""
    return msgspec.json.encode(view, order="deterministic").decode()


def view_from_definition(definition: str) -> FeatureView:
    """The view that `definition_json` wrote."""
    return msgspec.json.decode(definition, type=FeatureView)


def opening_fields(view: FeatureView, now_ms: int) -> dict[str, str | int]:
    """Fields written when a session begins."""
    return {
        "view": view.name,
        "fingerprint": view.fingerprint,
        "definition": definition_json(view),
        "started_ms": now_ms,
    }


def state_from_fields(fields: Mapping[bytes, bytes]) -> ViewState:
    """The state that a meta hash describes."""
    finished = fields.get(b"finished_ms")
    return ViewState(
        view=fields[b"view"].decode(),
        fingerprint=fields[b"fingerprint"].decode(),
        definition=fields[b"definition"].decode(),
        rows=int(fields.get(b"rows", 0)),
        watermark_ms=int(fields.get(b"watermark_ms", NO_WATERMARK_MS)),
        started_ms=int(fields[b"started_ms"]),
        finished_ms=None if finished is None else int(finished),
    )

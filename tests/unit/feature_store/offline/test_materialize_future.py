"""A time that has not come yet is no time whose knowledge can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_store.errors import MaterializeError
from feature_store.offline.materialize import materialize
from feature_store.online.memory_store import MemoryStore
from tests.logs import shop_project


def test_an_as_of_time_in_the_future_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """One impression dated 2199 would otherwise hide every newer row of its view until then."""
    project = shop_project("", tmp_path)

    with pytest.raises(MaterializeError, match="is in the future"):
        materialize(
            project, [], None, MemoryStore("shop"), workdir=tmp_path, clock=lambda: 1_000_000, as_of_ms=1_000_001
        )

"""These tests run on the event loop of production: where a connection has ended, uvloop and asyncio's loop differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Asked by pytest-asyncio for each test in this folder."""
    return {"uvloop": uvloop.new_event_loop}

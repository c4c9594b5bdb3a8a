"""How long work tells where it stands: the name of the stage, and the share of it that is done."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]


def silent(stage: str, share_done: float) -> None:
    """Nobody asked."""

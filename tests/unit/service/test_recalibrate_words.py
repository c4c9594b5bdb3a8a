"""What `clickserve recalibrate` says was fitted to the fresh clicks."""

from __future__ import annotations

import pytest

from models.calibrator import CalibratorChoice
from models.recalibration import MIN_CLICKS_SHAPE
from models.registry.manifest import Recalibrated
from service.commands.recalibrate import fitted_words


@pytest.mark.parametrize(
    ("kind", "clicks", "choice", "words"),
    [
        ("beta", 272, "auto", "the beta map of version v3 as it was; the line behind it is fitted to 42,800"),
        ("beta", MIN_CLICKS_SHAPE, "auto", "beta, fitted to 42,800"),
        ("beta", 272, "beta", "beta, fitted to 42,800"),
        ("platt", 272, "auto", "platt, fitted to 42,800"),
    ],
)
def test_a_kept_map_is_not_called_fitted(kind: str, clicks: int, choice: CalibratorChoice, words: str) -> None:
    """Few clicks make a line only; two lines are one."""
    fresh = Recalibrated("v3", "own:log", 42_800, clicks, 0, 1, {})

    assert fitted_words(kind, fresh, choice).startswith(words)

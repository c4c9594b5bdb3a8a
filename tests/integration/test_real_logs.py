"""Real logs, where the machine has them: the figures their descriptions give must come out of our readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.encoder import Encoder
from models.logs.frame import build_frame
from models.logs.presets import preset
from models.logs.reader import read_log

RealLog = Callable[[str], Path]


def test_every_row_of_criteo_is_read(real_log: RealLog, tmp_path: Path) -> None:
    """7 500 rows, 1 624 clicks, negative and missing integers, and nothing torn."""
    log = read_log(f"criteo:{real_log('criteo10k/train.tsv.gz')}", workdir=tmp_path)

    frame = build_frame(log)

    assert (log.n, log.clicks, log.rejects.n) == (7_500, 1_624, 0)
    assert frame.context.floats.shape == (7_500, 13)
    assert frame.context.ids.shape == (7_500, 26)
    assert np.nanmin(frame.context.floats) < 0
    assert np.isnan(frame.context.floats).any()


def test_movielens_counts_are_of_strictly_earlier_seconds(real_log: RealLog, tmp_path: Path) -> None:
    """People rate in bursts: the first second of a person must know nothing of the others of that second."""
    log = read_log(f"movielens:{real_log('movielens100k')}", workdir=tmp_path)

    frame = build_frame(log)

    column = Encoder(frame.inputs).float_names.index("user_ratings.ratings")
    seen = frame.encode(Encoder(frame.inputs)).features[:, column]
    earlier = np.zeros(len(frame))
    for user in np.unique(frame.users.codes):
        mine = np.flatnonzero(frame.users.codes == user)
        earlier[mine] = np.searchsorted(frame.time_ms[mine], frame.time_ms[mine])
    assert (log.n, log.clicks, log.rejects.n) == (74_995, 15_639, 0)
    np.testing.assert_array_equal(np.where(np.isnan(seen), 0, seen), earlier)


def test_the_static_variant_knows_nothing_of_the_log(real_log: RealLog, tmp_path: Path) -> None:
    """Its distance to the full definition is what point-in-time features are worth."""
    log = read_log(f"movielens:{real_log('movielens100k')}", preset("movielens_static"), workdir=tmp_path)

    names = Encoder(build_frame(log).inputs).float_names

    assert not [name for name in names if "ratings" in name]


@pytest.mark.parametrize(
    ("kind", "file", "n", "clicks"),
    [
        ("avazu", "avazu10k/train.csv.gz", 7_461, 1_264),
        ("ipinyou", "ipinyou48k/train.parquet", 26_773, 255),
        ("talkingdata", "talkingdata/clicks.parquet", 74_826, 174),
        ("obd", "obd", 44_845, 207),
    ],
)
def test_every_row_is_read_and_joined(
    kind: str, file: str, n: int, clicks: int, real_log: RealLog, tmp_path: Path
) -> None:
    """What their descriptions count, and no column of nothing but missing values."""
    log = read_log(f"{kind}:{real_log(file)}", workdir=tmp_path)

    frame = build_frame(log)

    assert (log.n, log.clicks, log.rejects.n) == (n, clicks, 0)
    for block in (frame.user, frame.ad, frame.context):
        assert not np.isnan(block.floats).all(axis=0).any()
        assert block.ids.any(axis=0).all()

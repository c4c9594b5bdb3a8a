"""Training as a stream: the features on disk are those of memory, and the figures mean the same."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_store.errors import LogError
from feature_store.offline.log import Log
from feature_store.offline.offline_store import OfflineStore
from models.calibrator import p_click_of
from models.encoder import Encoded, Encoder
from models.errors import TrainingError
from models.logs.frame import TrainingFrame, build_frame
from models.logs.reader import read_log
from models.logs.simulator import SIM_V1, simulate
from models.logs.stored_frame import StoredFrame, store_frame
from models.registry.registry import Registry
from models.streaming import CHUNK_ROWS, train_streaming
from models.trainers.ftrl import FtrlTrainer
from models.training import TrainOptions, TrainOutcome, train, training_set
from service import training_jobs
from tests.logs import random_columns, shop_log

N = 150_000
SHOP_VIEWS = """
[views.who_clicks]
entity = "user"
ttl = "6h"
step = "1h"
[views.who_clicks.features]
seen = { impressions = "3h" }
ctr = { ctr = "all", prior_impressions = 10 }
[views.what_shown]
entity = "ad"
ttl = "2h"
from = "log"
[views.what_shown.features]
place = { dtype = "id" }
[context.place]
dtype = "id"
[context.at]
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("simulated")
    simulate(SIM_V1, n_impressions=N, seed=3, out_dir=folder / "log")
    return read_log(f"simulated:{folder / 'log'}", workdir=folder / "work")


@pytest.fixture(scope="module")
def stored(log: Log) -> Iterator[StoredFrame]:
    with store_frame(log) as frame:
        yield frame


@pytest.fixture(scope="module")
def in_memory(log: Log) -> TrainingFrame:
    return build_frame(log)


@pytest.fixture(scope="module")
def streamed(stored: StoredFrame) -> TrainOutcome:
    return streaming(stored)


def streaming(frame: StoredFrame, **options: object) -> TrainOutcome:
    return train_streaming(frame, FtrlTrainer(), TrainOptions(**options), 0, lambda stage, share: None)  # type: ignore[arg-type]


def test_features_on_disk_are_those_of_memory(stored: StoredFrame, in_memory: TrainingFrame) -> None:
    """To the last bit, for windows, tables, context and pairs, at any place of the log."""
    encoder = Encoder(stored.inputs)

    for rows in (slice(0, N), slice(70_001, 70_002), slice(N - 5, N + 99), slice(10, 10)):
        found, wanted = stored.encode(encoder, rows), in_memory.encode(encoder, rows)
        np.testing.assert_array_equal(found.features, wanted.features)
        np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(stored.clicked, in_memory.clicked)
    np.testing.assert_array_equal(stored.time_ms, in_memory.time_ms)
    assert stored.has_positions == in_memory.has_positions
    assert stored.warnings() == in_memory.warnings()


def test_users_on_disk_are_told_apart_as_in_memory(stored: StoredFrame, in_memory: TrainingFrame) -> None:
    """Other codes for the same people."""
    codes = stored.users_at(slice(0, N)), in_memory.users_at(slice(0, N))

    first, second = (np.unique(each, return_inverse=True)[1] for each in codes)

    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == first.max() + 1 == second.max() + 1


def test_a_part_of_a_frame_on_disk_is_that_part(stored: StoredFrame, in_memory: TrainingFrame) -> None:
    """Rows keep the whole log as history."""
    found, wanted = stored.part(0.2, 0.7), in_memory.part(0.2, 0.7)
    encoder = Encoder(stored.inputs)

    np.testing.assert_array_equal(found.clicked, wanted.clicked)
    np.testing.assert_array_equal(found.time_ms, wanted.time_ms)
    rows = slice(100, 2_000)
    np.testing.assert_array_equal(found.encode(encoder, rows).features, wanted.encode(encoder, rows).features)


def test_missing_answers_defaults_and_an_unknown_user_survive_the_disk(tmp_path: Path) -> None:
    """A short time-to-live leaves impressions without a row; a column of times is a context number."""
    columns = random_columns(4, 400)
    columns["who"] = [None if i % 7 == 0 else who for i, who in enumerate(columns["who"])]  # type: ignore[arg-type]
    log = shop_log(tmp_path, SHOP_VIEWS, columns)
    wanted = build_frame(log)
    encoder = Encoder(wanted.inputs)

    with store_frame(log) as frame:
        found = frame.encode(encoder, slice(0, len(frame)))
        users = frame.users_at(slice(0, len(frame)))

    rows = wanted.encode(encoder)
    assert np.isnan(rows.features).any()
    np.testing.assert_array_equal(found.features, rows.features)
    np.testing.assert_array_equal(found.ids, rows.ids)
    np.testing.assert_array_equal(users == -1, wanted.users.codes == -1)


def test_files_of_a_frame_go_with_it(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the work, and when it fails half-way; gigabytes that nobody knows of fill a disk."""
    with store_frame(log) as frame:
        assert frame.folder.is_dir()
    assert not frame.folder.exists()

    def failing(*args: object) -> None:
        raise LogError("the view cannot be joined")

    there = set(log.path.parent.glob("joined-*"))
    monkeypatch.setattr(OfflineStore, "batches_at_impressions", failing)
    with pytest.raises(LogError, match="cannot be joined"):
        store_frame(log)
    assert set(log.path.parent.glob("joined-*")) == there


def test_a_stream_judges_as_training_in_memory_does(streamed: TrainOutcome, in_memory: TrainingFrame) -> None:
    """The same tail, the same meaning; one look costs a little against as many as help."""
    whole = train(training_set(in_memory), FtrlTrainer(), TrainOptions(), 0, lambda stage, share: None)

    for name in ("normalized_entropy", "calibration_ratio"):
        found, wanted = streamed.metrics[name], whole.metrics[name]
        assert (found.n, found.clicks) == (wanted.n, wanted.clicks)
        assert found.low < wanted.high
        assert wanted.low < found.high
    assert streamed.better_than_base_rate
    assert streamed.base_rate_entropy.value == whole.base_rate_entropy.value
    for outcome in (streamed, whole):  # intervals on one card are of one kind
        assert outcome.base_rate_entropy.unit == outcome.metrics["normalized_entropy"].unit == "users"
    assert streamed.negative_rate == pytest.approx(whole.negative_rate, rel=0.01)


def test_no_more_than_a_chunk_is_ever_held(stored: StoredFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what makes it independent of the size of the log."""
    asked: list[int] = []
    held: list[int] = []
    alive: list[weakref.ref[np.ndarray]] = []
    encode = StoredFrame.encode

    def counting(frame: StoredFrame, encoder: Encoder, rows: slice) -> Encoded:
        encoded = encode(frame, encoder, rows)
        asked.append(len(encoded.features))
        held.append(sum(len(rows) for each in alive if (rows := each()) is not None))
        alive.append(weakref.ref(encoded.features))
        return encoded

    monkeypatch.setattr(StoredFrame, "encode", counting)

    streaming(stored)

    assert max(asked) <= CHUNK_ROWS
    assert max(held) <= CHUNK_ROWS  # while the next one is read, the last may still be there
    assert sum(asked) == 2 * N  # the survey, and one look


def test_the_tail_takes_part_in_no_choice_of_a_stream(stored: StoredFrame) -> None:
    """Labels of the last fifth turned round, nothing thinned out: what was promised there does not change."""
    cut = int(0.8 * N)
    turned = replace(stored, clicked=np.r_[stored.clicked[:cut], ~stored.clicked[cut:]])

    honest, fooled = (streaming(frame, negative_rate=1.0) for frame in (stored, turned))

    np.testing.assert_array_equal(honest.held_out_p, fooled.held_out_p)
    assert honest.metrics["auc"].value == pytest.approx(1.0 - fooled.metrics["auc"].value, abs=1e-9)


def test_thinned_non_clicks_promise_what_all_of_them_do_in_a_stream(stored: StoredFrame) -> None:
    """With the calibrator off; without the correction they do not."""
    whole, thinned = (streaming(stored, calibrator="none", negative_rate=rate) for rate in (1.0, 0.3))
    uncorrected = streaming(stored, calibrator="none", negative_rate=0.3, correct=False)

    means = [outcome.held_out_p.mean() for outcome in (whole, thinned, uncorrected)]

    assert means[1] / means[0] == pytest.approx(1.0, abs=0.05)
    assert means[2] / means[0] > 2.0


def test_the_same_seed_gives_the_same_stream(stored: StoredFrame, streamed: TrainOutcome) -> None:
    """Thinning is all that is drawn."""
    again = streaming(stored)

    assert again.metrics == streamed.metrics
    rows = streamed.examples
    np.testing.assert_array_equal(again.model.raw_logit(rows), streamed.model.raw_logit(rows))


@pytest.mark.parametrize(
    ("clicked", "message"),
    [
        (np.zeros(N, dtype=np.bool_), "0 clicks are too few"),
        (np.arange(N) < 500, "too uneven over time"),
        (np.arange(N) > 0.9 * N, "too uneven over time"),
    ],
    ids=["none", "early", "late"],
)
def test_a_stream_refuses_what_training_does(stored: StoredFrame, clicked: np.ndarray, message: str) -> None:
    """In the same words, before anything is learnt."""
    with pytest.raises(TrainingError, match=message):
        streaming(replace(stored, clicked=clicked))


def test_a_large_log_is_streamed_published_and_compared(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole job twice: the first model becomes champion, the second is held against it; no file is left."""
    monkeypatch.setattr(training_jobs, "STREAMED_FROM", N)
    source = f"simulated:{log.folder}"
    registry = Registry(tmp_path / "registry")
    published = []

    for _ in range(2):
        with training_jobs.frame_to_learn(source, None, tmp_path / "work", "ftrl", lambda stage, share: None) as frame:
            assert isinstance(frame, StoredFrame)
            published.append(
                training_jobs.train_and_publish(
                    frame.part(0, 1),
                    learner="ftrl",
                    registry=registry,
                    source=source,
                    options=TrainOptions(),
                    seed=1,
                    on_progress=lambda stage, share: None,
                )
            )

    first, second = published
    assert first.is_champion
    assert not second.is_champion
    assert second.manifest.challenge is not None
    assert "later than its training" in second.manifest.challenge.why_not
    assert first.manifest.proof.holds
    assert first.manifest.parameters["learnt"] == "as a stream"
    assert "learner_state.npz" in first.manifest.files
    assert not list((tmp_path / "work").glob("joined-*"))


def test_a_streamed_model_answers_its_own_rows_as_it_promised(streamed: TrainOutcome) -> None:
    """Calibrated promises on examples add up to about the click rate of the log."""
    outcome = streamed
    p = p_click_of(outcome.model.raw_logit(outcome.examples), outcome.correction, outcome.calibrator)

    assert p.mean() == pytest.approx(outcome.clicks / outcome.impressions, rel=0.1)


def test_weights_that_streamed_keep_the_level_of_their_promises(
    stored: StoredFrame, in_memory: TrainingFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batches of a stream move the level more than they know of it; it is undone."""
    outcome = streaming(stored, calibrator="none")
    unlevelled = []
    monkeypatch.setattr("models.streaming.shift_to", lambda margins, clicks: unlevelled.append(clicks) or 0.0)
    raw = streaming(stored, calibrator="none")

    newest = training_set(in_memory).take(slice(N * 3 // 5, N)).encoded
    clicks = np.count_nonzero(in_memory.clicked[N * 3 // 5 :])

    levels = [
        p_click_of(each.model.raw_logit(newest), each.correction, each.calibrator).sum() / clicks
        for each in (outcome, raw)
    ]
    assert len(unlevelled) == 2
    assert abs(np.log(levels[0])) < abs(np.log(levels[1]))
    assert levels[0] == pytest.approx(1.0, abs=0.06)

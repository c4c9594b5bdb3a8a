"""What a search compares where rows stream: losses of promises, of the fit part alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from models.cross_fit import BLOCKS
from models.errors import TrainingError
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.ftrl import DesignedRows
from models.logs.reader import read_log
from models.logs.simulator import SIM_V1, simulate
from models.logs.stored_frame import StoredFrame, store_frame
from models.search import Budget
from models.stream_losses import StreamLosses
from models.streamed_rows import CHUNK_ROWS
from models.streaming import begun
from models.trainers import trainer_named
from models.trainers.ftrl import FtrlTrainer
from models.training import FIT_SHARE, TrainOptions
from service.searching import search_settings

N = 25_000
CUT = int(N * FIT_SHARE)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredFrame]:
    folder = tmp_path_factory.mktemp("streamed")
    simulate(SIM_V1, n_impressions=N, seed=3, out_dir=folder / "log")
    with store_frame(read_log(f"simulated:{folder / 'log'}", workdir=folder / "work")) as frame:
        yield frame


def losses_of(frame: StoredFrame, negative_rate: float | None = None) -> StreamLosses:
    return StreamLosses.of(frame, TrainOptions(negative_rate=negative_rate), 0, lambda text, share: None)


def test_the_loss_after_each_quarter_is_that_of_all_promises_so_far(stored: StoredFrame) -> None:
    """Each row promised before it was learnt, the mean over rows and not over chunks."""
    losses = losses_of(stored, negative_rate=0.5)

    found = list(losses.losses(FtrlTrainer(), 0))

    learner = begun(losses.stream, losses.surveyed, FtrlTrainer(), losses.taught)
    promised = []
    edges = np.linspace(0, CUT, BLOCKS + 1).astype(int).tolist()
    for start, end in pairwise(edges):
        assert end - start <= CHUNK_ROWS
        encoded = stored.encode(losses.stream.encoder, slice(start, end))
        rows = DesignedRows.of(learner.design, losses.stream.shown(encoded))
        promised.append(learner.learn(rows, stored.clicked[start:end], losses.taught[start:end]))
    margins = np.concatenate(promised)
    wanted = [
        log_loss_of_logit(stored.clicked[:end][losses.taught[:end]], margins[:end][losses.taught[:end]])
        for end in edges[1:]
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert losses.taught.sum() == pytest.approx(0.5 * CUT, rel=0.02)


def test_a_stream_of_the_fit_part_alone_judges_settings(stored: StoredFrame) -> None:
    """Labels of the tail turned round: the same losses, the same trials."""
    turned = replace(stored, clicked=np.r_[stored.clicked[:CUT], ~stored.clicked[CUT:]])

    honest, fooled = losses_of(stored), losses_of(turned)

    assert list(honest.losses(FtrlTrainer(), 0)) == list(fooled.losses(FtrlTrainer(), 0))
    assert honest.digest == fooled.digest
    assert losses_of(replace(stored, clicked=~stored.clicked)).digest != honest.digest
    assert losses_of(stored, negative_rate=0.5).digest != honest.digest


def test_settings_of_a_stream_are_searched(stored: StoredFrame, tmp_path: Path) -> None:
    """The use case on a frame that lies on disk, and the file of trials where it was asked for."""
    trainer, found = search_settings(
        stored,
        learner="ftrl",
        budget=Budget(None, 6),
        options=TrainOptions(),
        seed=1,
        workdir=tmp_path / "work",
        on_progress=lambda text, share: None,
    )

    assert isinstance(trainer, FtrlTrainer)
    assert {name: getattr(trainer.settings, name) for name in found.settings} == found.settings
    assert found.loss is not None
    assert found.loss_of_defaults is not None
    assert found.loss <= found.loss_of_defaults
    assert len(list((tmp_path / "work").glob("search-ftrl-*.json"))) == 1


def test_another_learner_cannot_be_judged_by_a_stream(stored: StoredFrame) -> None:
    """It would need the rows in memory."""
    with pytest.raises(TrainingError, match="gbdt cannot learn from a stream"):
        next(losses_of(stored).losses(trainer_named("gbdt"), 0))

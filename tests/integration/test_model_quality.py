"""From a log on disk to a published model and its evaluation, on a real log and on a simulated one."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from models.errors import EncodingError
from models.evaluation.evaluate import evaluate, write_predictions
from models.logs.frame import TrainingFrame, build_frame
from models.logs.reader import read_log
from models.logs.simulator import SIM_V1, simulate
from models.publication import Provenance, publish
from models.registry.gate import Gate
from models.registry.manifest import Label
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from models.trainers import trainer_named
from models.training import TrainOptions, train, training_set
from service.measuring import measure

RealLog = Callable[[str], Path]

PROVENANCE = Provenance("a test", Label("click"), "mean over the log's positions", 0)
N_SIMULATED = 120_000
QUICK_LEARNERS = ("gbdt", "xgboost", "logistic", "ftrl")
"""The others take a quarter of a minute each; `clickserve compare` and the proofs judge them."""
TREES_AND_WEIGHTS = ("gbdt", "logistic")
"""Of every kind one, on the larger log; the proof of the ladder judges all."""
FIT = 0.8


def model_of(frame: TrainingFrame, learner: str, folder: Path) -> Predictor:
    """Trained, published and loaded again."""
    outcome = train(training_set(frame), trainer_named(learner), TrainOptions(), 0, lambda stage, share: None)
    registry = Registry(folder / "registry")
    published = publish(outcome, frame.inputs, PROVENANCE, registry, Gate(), lambda stage, share: None)
    return registry.load(published.version)


def lines_of(path: Path, first: int, end: int, folder: Path) -> Path:
    """Some lines of a gzipped log as a file of their own."""
    with gzip.open(path, "rt") as file:
        lines = file.readlines()[first:end]
    part = folder / f"lines_{first}_{end}.tsv"
    part.write_text("".join(lines))
    return part


@pytest.fixture(scope="module")
def criteo(real_log: RealLog, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingFrame, TrainingFrame]:
    """Its first 80 % and its last 20 %, each a log of its own. Joined once for all learners."""
    whole, folder = real_log("criteo10k/train.tsv.gz"), tmp_path_factory.mktemp("criteo")
    early, late = (lines_of(whole, *ends, folder) for ends in ((0, 6_000), (6_000, 7_500)))
    return frame_of(early, folder), frame_of(late, folder)


def frame_of(path: Path, folder: Path) -> TrainingFrame:
    return build_frame(read_log(f"criteo:{path}", workdir=folder / path.stem))


@pytest.mark.parametrize("learner", QUICK_LEARNERS)
def test_criteo_is_learnt_from_its_first_part(
    learner: str, criteo: tuple[TrainingFrame, TrainingFrame], tmp_path: Path
) -> None:
    """First 80 % train, last 20 % judge. Settings were tuned inside the first part, but with this figure in sight."""
    early, late = criteo

    predictor = model_of(early, learner, tmp_path)
    entropy = evaluate(predictor, late).metrics["normalized_entropy"]

    assert entropy.value <= 0.92
    assert entropy.high < 1.0


@dataclass(frozen=True)
class Simulated:
    """A simulated log, what serving could know of it row by row, and models of its first part.

    A learner is trained when a test first asks for it: where two processes share this file, neither trains all.
    """

    frame: TrainingFrame
    attainable: npt.NDArray[np.float64]
    folder: Path
    _models: dict[str, Predictor] = field(default_factory=dict)

    def model(self, learner: str) -> Predictor:
        if learner not in self._models:
            self._models[learner] = model_of(self.frame.part(0, FIT), learner, self.folder / learner)
        return self._models[learner]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """Made once: simulating and joining take seconds."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(SIM_V1, n_impressions=N_SIMULATED, seed=3, out_dir=folder / "log")
    frame = build_frame(read_log(f"simulated:{folder / 'log'}", workdir=folder / "work"))
    attainable = pq.read_table(folder / "log" / "truth.parquet")["attainable_p"].to_numpy()
    return Simulated(frame, attainable, folder)


@pytest.mark.parametrize("learner", TREES_AND_WEIGHTS)
def test_probabilities_of_a_simulated_log_come_near_the_attainable(learner: str, simulated: Simulated) -> None:
    """Judged against the truth and not against clicks: 1 000 clicks of training teach at least a third of it."""
    evaluation = evaluate(simulated.model(learner), simulated.frame.part(FIT, 1))

    truth, promised = simulated.attainable[round(FIT * N_SIMULATED) :], evaluation.p_click
    guess = np.full(len(truth), truth.mean())
    of_guess, of_model, least = (
        -(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean() for p in (guess, promised, truth)
    )
    assert (of_guess - of_model) / (of_guess - least) > 1 / 3
    assert promised.sum() / truth.sum() == pytest.approx(1.0, abs=0.15)


def test_predictions_come_in_the_order_of_the_input(simulated: Simulated, tmp_path: Path) -> None:
    """A header and one line per accepted row, whatever order the log is kept in."""
    evaluation = evaluate(simulated.model("logistic"), simulated.frame)
    turned = replace(evaluation, line=evaluation.line[::-1])

    write_predictions(turned, tmp_path / "predictions.csv")

    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["y", "p"]
    np.testing.assert_array_equal([row[0] == "1" for row in rows[1:]], evaluation.clicked[::-1])
    np.testing.assert_allclose([float(row[1]) for row in rows[1:]], evaluation.p_click[::-1], rtol=1e-8)


def test_a_log_of_other_columns_is_refused(simulated: Simulated) -> None:
    """Values under other names would be scored without a word."""
    inputs = simulated.frame.inputs
    fewer_views = replace(simulated.frame, inputs=msgspec.structs.replace(inputs, views=inputs.views[1:]))
    fewer_columns = replace(simulated.frame, inputs=msgspec.structs.replace(inputs, context=inputs.context[1:]))

    with pytest.raises(EncodingError, match=r"views \['user_profile'\] are not those the model was trained on"):
        evaluate(simulated.model("gbdt"), fewer_views)
    with pytest.raises(EncodingError, match=r"columns \['context\.placement'\] are in the log or in the model"):
        evaluate(simulated.model("gbdt"), fewer_columns)


def test_impressions_of_nobody_are_no_one_s(simulated: Simulated) -> None:
    """Every figure takes each of them by itself; together they would be one user, who has all clicks."""
    judged = simulated.frame.part(0.95, 1)
    unknown = replace(judged, users=judged.users._replace(codes=np.full(len(judged), -1, np.int32)))

    oracles = measure(simulated.model("logistic"), unknown).oracles

    assert oracles is not None
    assert oracles.share_of_attainable_gain.why_rows == "no user is known"
    assert oracles.true["normalized_entropy"].why_rows == "no user is known"

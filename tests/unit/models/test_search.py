"""The search of settings: what is chosen, what it may look at, when it ends, and that it can be interrupted."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from models.cross_fit import BLOCKS
from models.errors import TrainingError
from models.fitting.dials import Whole, defaults
from models.registry.manifest import Search
from models.search import JUDGED_FROM, Budget, check_searchable, search
from models.trainers import LEARNERS, trainer_named
from models.trainers.ftrl import SPACE, FtrlTrainer
from models.trainers.trainer import Trainer
from models.training import TrainOptions, cross_fit_of
from tests.learning import made_impressions, params

LOG = made_impressions(1_500, seed=1)
LATER = made_impressions(800, seed=2)
WITHOUT_DIALS = ("base-rate", "smoothed-ctr", "logistic")
TUNABLE = params(name for name in LEARNERS if name not in WITHOUT_DIALS)
BEST = {"alpha": 0.3, "l1": 0.02, "l2": 20.0}
"""Where the bowl is deepest; the defaults lie up its side."""


@dataclasses.dataclass
class Bowl:
    """A loss whose shape is known, four blocks of different height; a block takes `block_s` by its own clock."""

    digest: str = "bowl"
    block_s: float = 1.0
    killed_at: int | None = None
    """Block, counted over all trials, in which somebody interrupts the program."""
    now_s: float = 0.0
    asked: int = 0
    tried: list[tuple[float, ...]] = dataclasses.field(default_factory=list)

    def clock(self) -> float:
        return self.now_s

    def losses(self, trainer: Trainer, seed: int) -> Iterator[float]:
        assert isinstance(trainer, FtrlTrainer)
        settings = {name: getattr(trainer.settings, name) for name in BEST}
        self.tried.append(tuple(settings.values()))
        depth = sum(np.log(settings[name] / best) ** 2 for name, best in BEST.items()) / 100
        for height in (0.5, 0.7, 0.6, 0.65):
            if self.asked == self.killed_at:
                raise KeyboardInterrupt
            self.asked += 1
            self.now_s += self.block_s
            yield float(height + depth)


def found_by(
    bowl: Bowl, folder: Path, *, seconds: float | None = None, trials: int | None = None, seed: int = 1
) -> Search:
    _, found = search(
        bowl,
        FtrlTrainer(),
        Budget(seconds, trials),
        seed,
        folder=folder,
        version="1",
        on_progress=lambda text, share: None,
        clock=bowl.clock,
    )
    return found


def file_in(folder: Path) -> Path:
    (path,) = folder.glob("search-ftrl-*.json")
    return path


@pytest.mark.parametrize("learner", TUNABLE)
def test_the_dials_defaults_are_the_learner_as_it_is(learner: str) -> None:
    """They lie within the range, and the first trial measures what would be trained without a search."""
    trainer = check_searchable(trainer_named(learner))

    same = trainer.tuned(defaults(trainer.space))

    assert all(dial.low < dial.default < dial.high for dial in trainer.space.values())
    np.testing.assert_array_equal(
        same.fit_path(LOG, LATER, seed=0).held_out_loss, trainer.fit_path(LOG, LATER, seed=0).held_out_loss
    )


@pytest.mark.parametrize("learner", TUNABLE)
def test_every_dial_does_something_and_lands_in_the_manifest(learner: str) -> None:
    """A dial that nobody reads would be searched for nothing, and tell a lie on the card."""
    trainer = check_searchable(trainer_named(learner))
    for name, dial in trainer.space.items():
        ends = [trainer.tuned({name: value}).fit(LOG, 3, 1.0, seed=0) for value in (dial.low, dial.high)]

        assert [model.parameters[name] for model in ends] == [dial.low, dial.high], name
        assert {type(model.parameters[name]) for model in ends} == {int if isinstance(dial, Whole) else float}, name
        assert np.any(ends[0].raw_logit(LATER.encoded) != ends[1].raw_logit(LATER.encoded)), name


@pytest.mark.parametrize("learner", WITHOUT_DIALS)
def test_a_learner_without_dials_is_refused_with_the_reason(learner: str) -> None:
    """Before a log is read."""
    with pytest.raises(TrainingError, match=f"{learner} has nothing to search"):
        check_searchable(trainer_named(learner))


def test_without_optuna_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is an extra; training needs it not."""
    monkeypatch.setitem(sys.modules, "optuna", None)

    with pytest.raises(TrainingError, match="pip install 'optuna>=4'"):
        check_searchable(FtrlTrainer())


@pytest.mark.parametrize("seed", range(3))
def test_a_search_begins_with_the_defaults_and_ends_lower(tmp_path: Path, seed: int) -> None:
    """Never worse by its own loss; on a bowl it must get down."""
    bowl = Bowl()

    found = found_by(bowl, tmp_path, trials=30, seed=seed)

    assert bowl.tried[0] == tuple(defaults(SPACE).values())
    assert found.loss is not None
    assert found.loss_of_defaults is not None
    assert found.loss - 0.65 < 0.5 * (found.loss_of_defaults - 0.65)
    assert found.settings in [dict(zip(BEST, tried, strict=True)) for tried in bowl.tried]


def test_of_one_trial_the_defaults_are_chosen(tmp_path: Path) -> None:
    """And nothing is claimed to be better than they are."""
    found = found_by(Bowl(), tmp_path, trials=1)

    assert found.settings == defaults(SPACE)
    assert found.loss == found.loss_of_defaults
    assert "nothing was better than the learner's own settings" in found.described()


def test_the_same_seed_and_number_of_trials_choose_the_same(tmp_path: Path) -> None:
    """However fast the machine is; another seed looks elsewhere."""
    runs = [Bowl(), Bowl(block_s=7.0), Bowl()]
    for number, (bowl, seed) in enumerate(zip(runs, (1, 1, 2), strict=True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        found_by(bowl, folder, trials=15, seed=seed)

    first, second, other = (bowl.tried for bowl in runs)
    assert first == second
    assert first[0] == other[0]
    assert first[1:] != other[1:]


@pytest.mark.parametrize("killed_at", [0, 1, 9, 22, 37])
def test_an_interrupted_search_goes_the_way_of_one_in_a_single_run(tmp_path: Path, killed_at: int) -> None:
    """Trials that ended are not tried again, the others are, and what comes after is drawn as it would have been."""
    whole, broken, rest = Bowl(), Bowl(killed_at=killed_at), Bowl()
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    wanted = found_by(whole, tmp_path / "whole", trials=15)

    with pytest.raises(KeyboardInterrupt):
        found_by(broken, tmp_path / "broken", trials=15)
    found = found_by(rest, tmp_path / "broken", trials=15)

    assert broken.tried[:-1] + rest.tried == whole.tried
    assert found == wanted


def test_a_learner_that_runs_away_is_not_chosen(tmp_path: Path) -> None:
    """NaN is the loss of a learner whose steps were too long; the file is still read, and the search goes on."""

    class Cliff(Bowl):
        def losses(self, trainer: Trainer, seed: int) -> Iterator[float]:
            for loss in super().losses(trainer, seed):
                yield math.nan if self.tried[-1] != tuple(defaults(SPACE).values()) else loss

    found_by(Cliff(), tmp_path, trials=3)

    assert found_by(Cliff(), tmp_path, trials=9).settings == defaults(SPACE)


def test_a_search_that_ended_is_not_done_again(tmp_path: Path) -> None:
    """The same command answers at once; a larger budget goes on."""
    first = found_by(Bowl(), tmp_path, trials=8)
    again, more = Bowl(), Bowl()

    assert found_by(again, tmp_path, trials=8) == first
    found_by(more, tmp_path, trials=10)

    assert again.tried == []
    assert len(more.tried) == 2


def test_a_shorter_search_after_a_longer_one_chooses_as_if_alone(tmp_path: Path) -> None:
    """The number of trials decides, not what else lies in the folder."""
    for name in ("alone", "after"):
        (tmp_path / name).mkdir()
    found_by(Bowl(), tmp_path / "after", trials=20)

    found = found_by(Bowl(), tmp_path / "after", trials=7)

    alone = found_by(Bowl(), tmp_path / "alone", trials=7)
    assert (found.settings, found.loss, found.trials) == (alone.settings, alone.loss, 7)


@pytest.mark.parametrize("seconds", [3.0, 4.0, 21.0, 22.5])
def test_a_budget_of_time_is_of_all_runs_and_ends_at_the_next_block(tmp_path: Path, seconds: float) -> None:
    """A block begun is ended, another is not begun, and what a trial took that came to no end counts as well."""
    bowl, again = Bowl(), Bowl()

    found = found_by(bowl, tmp_path, seconds=seconds)

    assert bowl.now_s == np.ceil(seconds)
    assert found.seconds == bowl.now_s
    assert found_by(again, tmp_path, seconds=seconds) == found
    assert again.tried == []


def test_a_budget_too_short_for_any_trial_leaves_the_defaults(tmp_path: Path) -> None:
    """And says so, instead of a figure."""
    found = found_by(Bowl(), tmp_path, seconds=2.0)

    assert (found.trials, found.loss, found.settings) == (0, None, defaults(SPACE))
    assert "none came to its end" in found.described()


def test_what_is_worse_than_the_median_after_a_block_is_cut_short(tmp_path: Path) -> None:
    """And nothing else is: by the trials that had come to their end before it."""
    found = found_by(Bowl(), tmp_path, trials=40)

    losses = [trial["losses"] for trial in json.loads(file_in(tmp_path).read_bytes())["trials"]]
    finished: list[list[float]] = []
    cut_short = 0
    for trial in losses:
        judged = len(finished) >= JUDGED_FROM
        hopeless = [
            judged and loss > median(other[block] for other in finished)
            for block, loss in enumerate(trial[: BLOCKS - 1])
        ]
        assert (len(trial) < BLOCKS) == any(hopeless)
        assert not any(hopeless[: len(trial) - 1])
        cut_short += len(trial) < BLOCKS
        finished += [trial] if len(trial) == BLOCKS else []
    assert found.cut_short == cut_short > 0


@pytest.mark.parametrize(
    "content", [b"", b'{"key": "', b"[]", b"\x00\xff", b'{"key": "x", "given_up_s": 0, "trials": []}']
)
def test_a_damaged_file_of_trials_is_named_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    """Hours of trials are not thrown away in silence."""
    found_by(Bowl(), tmp_path, trials=2)
    path = file_in(tmp_path)
    path.write_bytes(content)

    with pytest.raises(TrainingError) as caught:
        found_by(Bowl(), tmp_path, trials=3)

    assert str(path) in str(caught.value)
    assert "remove it to search anew" in str(caught.value)
    assert path.read_bytes() == content


def test_other_rows_seeds_or_learners_have_trials_of_their_own(tmp_path: Path) -> None:
    """One folder serves them all; a loss of other rows would mislead."""
    bowls = [Bowl(), Bowl(digest="other rows"), Bowl()]

    for bowl, seed in zip(bowls, (1, 1, 2), strict=True):
        found_by(bowl, tmp_path, trials=2, seed=seed)

    assert [len(bowl.tried) for bowl in bowls] == [2, 2, 2]


def test_progress_tells_trial_best_and_time_left(tmp_path: Path) -> None:
    """One stage with a changing detail; the share only rises."""
    told: list[tuple[str, float]] = []
    bowl = Bowl()

    search(
        bowl,
        FtrlTrainer(),
        Budget(100.0, 20),
        1,
        folder=tmp_path,
        version="1",
        on_progress=lambda text, share: told.append((text, share)),
        clock=bowl.clock,
    )

    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert told[-1][0].startswith("searching | 20 trials, best log loss 0.")
    assert told[0][0] == "searching | trial 1 of 20, 1:40 left"
    assert any(text.startswith("searching | trial 2 of 20, best log loss 0.") for text, _ in told)
    assert any(text.endswith(", 1:36 left") for text, _ in told)


@pytest.mark.parametrize("learner", ["ftrl", "gbdt"])
def test_a_trial_looks_at_nothing_of_the_tail(learner: str) -> None:
    """Clicks of the last fifth turned round and its columns replaced: the same losses, and the same file of trials."""
    cut = 1_200
    features = LOG.encoded.features.copy()
    features[cut:] += 5.0
    turned = dataclasses.replace(
        LOG,
        clicked=np.r_[LOG.clicked[:cut], ~LOG.clicked[cut:]],
        encoded=LOG.encoded._replace(features=features),
    )

    honest, fooled = (cross_fit_of(log, TrainOptions(), seed=0) for log in (LOG, turned))

    trainer = trainer_named(learner)
    assert list(honest.losses(trainer, 0)) == list(fooled.losses(trainer, 0))
    assert honest.digest == fooled.digest


def test_rows_with_other_labels_are_other_rows() -> None:
    """Within the fit part everything counts."""
    clicked = LOG.clicked.copy()
    clicked[7] = ~clicked[7]

    digests = {cross_fit_of(log, TrainOptions(), 0).digest for log in (LOG, dataclasses.replace(LOG, clicked=clicked))}

    assert len(digests) == 2


def test_a_search_over_real_learners_lowers_the_held_out_loss(tmp_path: Path) -> None:
    """The whole way once: a learner that is far from right on few rows gets better."""
    data = made_impressions(1_200, seed=5)

    trainer, found = search(
        cross_fit_of(data, TrainOptions(), 0),
        check_searchable(trainer_named("fm")),
        Budget(None, 6),
        0,
        folder=tmp_path,
        version="1",
        on_progress=lambda text, share: None,
        clock=lambda: 0.0,
    )

    assert found.trials == 6
    assert found.loss is not None
    assert found.loss_of_defaults is not None
    assert found.loss < found.loss_of_defaults
    (*_, again) = cross_fit_of(data, TrainOptions(), 0).losses(trainer, 0)
    assert again == found.loss

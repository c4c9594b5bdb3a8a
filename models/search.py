"""Search: settings of a learner tried one after the other under a budget, best held-out loss of the fit part wins.

    fit part, 80 %  ──► trial 0: the defaults ──► trial 1 ──► … ──► trial n      least loss ──► train as always
    tail, 20 %          never looked at

1. A trial is a learner with some settings, and its loss on held-out rows of the fit part: the loss that chooses the
   step of its path, too (`models/cross_fit.py`), or that of promises where rows stream (`models/stream_losses.py`). The
   tail, which judges the published model, takes part in nothing.
2. The first trial are the defaults, so what is chosen is never worse than they are, by that loss. The first
   `RANDOM_TRIALS` others are drawn at random, then a tree-structured Parzen estimator draws where losses were low.
3. A trial is cut short after a block where its loss so far is above the median of those that came to their end. This
   is not Optuna's own median pruner: that one compares the best value of any step, and blocks are not alike, so after
   one easy block it cuts nothing any more.
4. The budget, of time or of trials, is that of the search and not of one run of it. A trial that it ends is given up at
   its next block.

Every trial that ended stands in a file, written anew after each. A run that was interrupted goes on from there. Draws
depend on the seed, the number of the trial and the trials before it, so an interrupted search takes the same way as one
in a single run, and the same seed and number of trials choose the same settings, wherever the clock played no part.

The loss of the chosen settings flatters: it is the best of many. Nothing is published of it but its comparison with the
defaults; the model's figures are those of the tail.

Sources: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"; Akiba et al. 2019 (Optuna).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

from models.cross_fit import BLOCKS
from models.errors import NothingToSearch, TrainingError
from models.fitting.dials import Dial, Setting, Space, Whole, defaults
from models.random_streams import random_stream
from models.registry.manifest import Search
from models.search_trials import Trial, TrialFile, best_of
from models.trainers.trainer import Trainer, TunableTrainer

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RANDOM_TRIALS = 5
"""After the defaults: fewer tell the estimator nothing."""
JUDGED_FROM = 5
"""Trials that must have come to their end before one is cut short: a median of fewer is an accident."""

DIVERGED = 1e9
"""The loss, in nats, of a trial whose learner ran away: no file of JSON and no estimator can take a NaN."""

Progress = Callable[[str, float], None]
Clock = Callable[[], float]
"""Seconds from any beginning."""


class Objective(Protocol):
    """What a trial is judged by."""

    @property
    def digest(self) -> str:
        """Hash of all that the losses depend on, beside trainer and seed."""
        ...

    def losses(self, trainer: Trainer, seed: int) -> Iterator[float]:
        """Mean log loss in nats of the held-out rows so far, after each of `BLOCKS` blocks; the last is what counts."""
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """When to end; whichever comes first. None: not by this."""

    seconds: float | None
    trials: int | None

    def share(self, spent_s: float, n_trials: float) -> float:
        """How much of it is used; from 1 on it is over."""
        return max(
            0.0 if self.seconds is None else spent_s / self.seconds,
            0.0 if self.trials is None else n_trials / self.trials,
        )


def check_searchable(trainer: Trainer) -> TunableTrainer:
    """The same learner, where a search can turn its dials; asked before minutes are spent on reading a log.

    Raises:
        NothingToSearch: it has no dials.
        TrainingError: Optuna is not installed.
    """
    if not isinstance(trainer, TunableTrainer):
        raise NothingToSearch(
            f"the learner {trainer.name} has nothing to search: all that it can be told is chosen by held-out clicks "
            "anyway; train it without a search"
        )
    try:
        import optuna  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise TrainingError(f"a search needs Optuna: pip install 'optuna>=4' ({error})") from error
    return trainer


def search(
    objective: Objective,
    trainer: TunableTrainer,
    budget: Budget,
    seed: int,
    *,
    folder: Path,
    version: str,
    on_progress: Progress,
    clock: Clock,
) -> tuple[Trainer, Search]:
    """The learner with the best settings that were found, and how they were.

    Args:
        folder: where the file of trials lies; it exists.
        version: of the product, whose trainers made the losses.
    Raises:
        TrainingError: the file of trials is damaged, or a learner cannot learn.
        RegistryError: it cannot be written.
    """
    key = sha256(f"{objective.digest} {trainer!r} {dict(trainer.space)} {seed} {version}".encode()).hexdigest()
    trials = TrialFile.opened(folder / f"search-{trainer.name}-{key[:12]}.json", key)
    while (share := budget.share(trials.spent_s, len(trials.ended))) < 1.0:
        words = _words(trials.ended, budget, trials.spent_s)
        on_progress(words, share)
        settings = _next_settings(trainer.space, trials.ended, seed)
        began = clock()
        running = objective.losses(trainer.tuned(settings), seed)
        losses: list[float] = []
        while len(losses) < BLOCKS:
            loss = float(next(running))
            losses.append(loss if math.isfinite(loss) else DIVERGED)
            spent_s = clock() - began
            on_progress(words, budget.share(trials.spent_s + spent_s, len(trials.ended) + len(losses) / BLOCKS))
            over = budget.share(trials.spent_s + spent_s, len(trials.ended)) >= 1.0
            if over or _hopeless(losses, trials.ended):
                break
        if len(losses) < BLOCKS and over:
            trials.give_up(spent_s)
        else:
            trials.add(Trial(settings, tuple(losses), spent_s))
    # Of a longer search that was done before, only what this one would have tried counts.
    ended = trials.ended[: budget.trials]
    best = best_of(ended)
    on_progress(f"searching | {len(ended)} trials{_found(ended)}", 1.0)
    settings = defaults(trainer.space) if best is None else best.settings
    return trainer.tuned(settings), Search(
        budget_minutes=None if budget.seconds is None else budget.seconds / 60,
        budget_trials=budget.trials,
        trials=len(ended),
        cut_short=sum(not trial.finished for trial in ended),
        seconds=round(trials.spent_s, 3),
        settings=settings,
        loss=None if best is None else best.losses[-1],
        loss_of_defaults=None if best is None else ended[0].losses[-1],
    )


def _hopeless(losses: list[float], ended: Sequence[Trial]) -> bool:
    """Whether a trial is worse after these blocks than half of those that came to their end were."""
    rivals = [trial.losses[len(losses) - 1] for trial in ended if trial.finished]
    return len(rivals) >= JUDGED_FROM and losses[-1] > median(rivals)


def _next_settings(space: Space, ended: Sequence[Trial], seed: int) -> dict[str, Setting]:
    """What to try after these trials: the same whoever asks, and whenever."""
    if not ended:
        return defaults(space)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    draws = int(random_stream(seed, f"trial {len(ended)} of a search").integers(2**31))
    dials = {name: _distribution(dial) for name, dial in space.items()}
    study = optuna.create_study(
        direction="minimize", sampler=optuna.samplers.TPESampler(seed=draws, n_startup_trials=1 + RANDOM_TRIALS)
    )
    study.add_trials(
        [
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if trial.finished else optuna.trial.TrialState.PRUNED,
                value=trial.losses[-1] if trial.finished else None,
                params=dict(trial.settings),
                distributions=dials,
                intermediate_values=dict(enumerate(trial.losses)),
            )
            for trial in ended
        ]
    )
    return dict(study.ask(dials).params)


def _distribution(dial: Dial) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(dial, Whole):
        return IntDistribution(dial.low, dial.high, log=dial.log)
    return FloatDistribution(dial.low, dial.high, log=dial.log)


def _words(ended: Sequence[Trial], budget: Budget, spent_s: float) -> str:
    """The stage, and its detail: number of the trial, the best so far, what is left."""
    of = "" if budget.trials is None else f" of {budget.trials}"
    left_s = 0 if budget.seconds is None else round(budget.seconds - spent_s)
    left = "" if budget.seconds is None else f", {left_s // 60}:{left_s % 60:02d} left"
    return f"searching | trial {len(ended) + 1}{of}{_found(ended)}{left}"


def _found(ended: Sequence[Trial]) -> str:
    best = best_of(ended)
    return "" if best is None else f", best log loss {best.losses[-1]:.5f}"

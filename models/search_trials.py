"""The file of a search: every trial that came to an end, so that an interrupted search goes on from there.

Written anew after each trial, in one step: a reader sees the trials before it or with it. The key names everything that
their losses depend on; the file's name holds its beginning, so searches of other rows or settings have files of their
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from models.cross_fit import BLOCKS
from models.errors import TrainingError
from models.fitting.dials import Setting
from models.registry.files import naming_the_disk, write_over


class Trial(msgspec.Struct, frozen=True):
    """Settings that were tried. losses: after each block, fewer than `BLOCKS` of them where it was cut short."""

    settings: dict[str, Setting]
    losses: tuple[float, ...]
    seconds: float

    @property
    def finished(self) -> bool:
        """Whether all blocks were held out."""
        return len(self.losses) == BLOCKS


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    """given_up_s: time that went into trials which the budget ended."""

    key: str
    given_up_s: float
    trials: list[Trial]


class TrialFile:
    """The trials of one search, in memory and on the disk. One process at a time."""

    def __init__(self, path: Path, content: _Content) -> None:
        self._path, self._content = path, content

    @classmethod
    def opened(cls, path: Path, key: str) -> TrialFile:
        """Goes on with what is there, or begins.

        Raises:
            TrainingError: it holds something else.
        """
        try:
            content = msgspec.json.decode(path.read_bytes(), type=_Content)
        except FileNotFoundError:
            return cls(path, _Content(key, 0.0, []))
        except (OSError, msgspec.DecodeError) as error:
            raise TrainingError(
                f"{path} should hold the trials of this search and cannot be read ({error}); remove it to search anew"
            ) from error
        if content.key != key or not all(1 <= len(trial.losses) <= BLOCKS for trial in content.trials):
            raise TrainingError(f"{path} holds the trials of another search; remove it to search anew")
        return cls(path, content)

    @property
    def ended(self) -> Sequence[Trial]:
        """Finished or cut short, in their order."""
        return self._content.trials

    @property
    def spent_s(self) -> float:
        """What the search took so far, over all runs; a trial that was killed counts nothing."""
        return self._content.given_up_s + sum(trial.seconds for trial in self._content.trials)

    def add(self, trial: Trial) -> None:
        """Raises RegistryError where it cannot be written."""
        self._content.trials.append(trial)
        self._write()

    def give_up(self, seconds: float) -> None:
        """Counts the time of a trial that came to no end. Raises as `add`."""
        self._content.given_up_s += seconds
        self._write()

    def _write(self) -> None:
        with naming_the_disk("keep the trials of a search in", self._path):
            write_over(self._path, msgspec.json.format(msgspec.json.encode(self._content)))


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The first of those with the least loss; None where none was finished."""
    return min((trial for trial in trials if trial.finished), key=lambda trial: trial.losses[-1], default=None)

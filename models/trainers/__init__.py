"""Learners behind one contract (`trainer.py`), one a file; a library is loaded by the file that needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import TrainingError

if TYPE_CHECKING:
    from models.trainers.trainer import Trainer

HEURISTICS = ("base-rate", "smoothed-ctr")
"""What every model must beat: nobody's opinion, and that of one column."""

LEARNERS = (*HEURISTICS, "logistic", "ftrl", "fm", "gbdt", "xgboost", "gbdt-lr", "two-tower", "dcn")
"""From simple to complex."""

DEEP_LEARNERS = frozenset({"two-tower", "dcn"})
"""Those that need torch to learn, and nothing of it to serve."""

TORCH = "pip install -r requirements/deep.in"
"""In no lock, because a checkout can do without."""

STREAMED_LEARNERS = frozenset({"ftrl"})
"""Those that take rows as they come, so that a log need not fit into memory (`models/streaming.py`)."""


def trainer_named(name: str, threads: int = 1) -> Trainer:
    """The learner of that name with its frozen defaults; loads its library.

    Raises:
        TrainingError: there is no such learner.
    """
    if name == "base-rate":
        from models.trainers.base_rate import BaseRateTrainer

        return BaseRateTrainer()
    if name == "smoothed-ctr":
        from models.trainers.smoothed_ctr import SmoothedCtrTrainer

        return SmoothedCtrTrainer()
    if name == "gbdt":
        from models.trainers.gbdt import GbdtTrainer

        return GbdtTrainer(threads=threads)
    if name == "logistic":
        from models.trainers.logistic import LogisticTrainer

        return LogisticTrainer()
    if name == "ftrl":
        from models.trainers.ftrl import FtrlTrainer

        return FtrlTrainer()
    if name == "fm":
        from models.trainers.fm import FactorisationMachineTrainer

        return FactorisationMachineTrainer()
    if name == "xgboost":
        try:
            from models.trainers.xgboost import XgboostTrainer
        except ImportError as error:
            raise TrainingError(f"the learner xgboost needs its library: pip install xgboost-cpu ({error})") from error

        return XgboostTrainer(threads=threads)
    if name == "gbdt-lr":
        from models.trainers.leaf_logistic import LeafLogisticTrainer

        return LeafLogisticTrainer(threads=threads)
    if name in DEEP_LEARNERS:
        return _deep_learner(name, threads)
    raise TrainingError(f"there is no learner {name!r}; choose one of {', '.join(LEARNERS)}")


def _deep_learner(name: str, threads: int) -> Trainer:
    try:
        if name == "dcn":
            from models.trainers.dcn import DeepCrossTrainer

            return DeepCrossTrainer(threads=threads)
        from models.trainers.two_tower import TwoTowerTrainer

        return TwoTowerTrainer(threads=threads)
    except ImportError as error:
        raise TrainingError(f"the learner {name} needs torch to train (serving does not): {TORCH} ({error})") from error

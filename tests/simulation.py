"""A simulated log read back from its files, and the figures that its promises are measured by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from models.logs.simulator import SIM_V1, SimulationSummary, simulate

N_LOG, SEED = 300_000, 7
N_SMALL = 20_000


@dataclass(frozen=True)
class SimulatedLog:
    """A simulated log read back from its files, ids as numbers."""

    summary: SimulationSummary
    impressions: dict[str, npt.NDArray[np.generic]]
    truth: dict[str, npt.NDArray[np.float64]]
    users: dict[str, npt.NDArray[np.generic]]
    ads: dict[str, npt.NDArray[np.generic]]

    @classmethod
    def made(cls, folder: Path, **arguments: object) -> SimulatedLog:
        summary = simulate(SIM_V1, out_dir=folder, **arguments)  # type: ignore[arg-type]
        tables = (_columns(folder / f"{name}.parquet") for name in ("impressions", "truth", "users", "ads"))
        return cls(summary, *tables)

    @property
    def segment(self) -> npt.NDArray[np.generic]:
        return self.users["segment"][self.impressions["user_id"]]

    @property
    def category(self) -> npt.NDArray[np.generic]:
        return self.ads["category"][self.impressions["ad_id"]]


def _columns(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Columns as arrays: numbered ids ("u12") as their number, missing click times as -1."""
    columns = {}
    for name, column in zip((table := pq.read_table(path)).column_names, table.columns, strict=True):
        if name == "click_time_ms":
            column = column.fill_null(-1)
        values = column.to_numpy()
        if values.dtype == object and name != "device":
            values = np.array([int(text.lstrip("abcdefghijklmnopqrstuvwxyz")) for text in values])
        columns[name] = values
    return columns


def log_odds_of(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,) log-odds of (n,) probabilities."""
    return np.log(p) - np.log1p(-p)


def between_group_share(values: npt.NDArray[np.float64], group: npt.NDArray[np.generic]) -> float:
    """Variance of the group means, weighted by group size, over the whole variance."""
    counts = np.bincount(group)
    means = np.bincount(group, values) / np.maximum(counts, 1)
    return float(np.average((means - values.mean()) ** 2, weights=counts) / values.var())

"""What an interval redraws: whole users where there are enough of them, single impressions where there are not.

Impressions of one user are not independent, so users are the unit. But the spread between few users is itself hardly
known: redrawing three of them gives an interval that misses far too often, and redrawing one of them repeats the
estimate. How many users there are is counted by what they weigh: u users of equal clicks count as u, and where one has
nearly all of the clicks (often a placeholder such as `anon`) they count as one, whatever the others are.

    effective users = (sum c)^2 / sum c^2,    c: clicks of a user (non-clicks, where those are rarer)

Below `LEAST_USERS` of them an interval is by row, or by user where that is wider, and it says so. By row is right where
the "users" are none; where they are real it may be too narrow, and the by-user end can only lessen that.

Share of 95 % intervals of NE that held the truth (300 samples each; users of 100 impressions at about 13 % clicks,
fewer than 20 users share 2,000 impressions; "unequal" users: sizes by Pareto's law of exponent 1):

     users                     effective   by user   by row   the wider
         3  equal, alike                3.0     0.787    0.947       0.957
        10  equal, alike                9.7     0.903    0.943       0.953
        20  equal, alike               18.7     0.937    0.947       0.960
        40  equal, alike               37.1     0.947    0.953       0.957
       160  equal, alike              148.5     0.947    0.953       0.960
         3  unequal, alike              1.9     0.760    0.947       0.973
        10  unequal, alike              3.3     0.913    0.943       0.960
        20  unequal, alike              4.4     0.900    0.933       0.967
        40  unequal, alike              6.4     0.933    0.940       0.963
       160  unequal, alike              9.9     0.947    0.947       0.973
         3  equal, differing            2.8     0.753    0.700       0.843
        10  equal, differing            8.5     0.930    0.900       0.947
        20  equal, differing           16.4     0.947    0.943       0.963
        40  equal, differing           32.4     0.930    0.900       0.933
       160  equal, differing          128.1     0.960    0.923       0.960
         3  unequal, differing          1.7     0.677    0.577       0.787
        10  unequal, differing          3.4     0.863    0.710       0.907
        20  unequal, differing          4.3     0.887    0.720       0.930
        40  unequal, differing          5.9     0.900    0.713       0.917
       160  unequal, differing         10.6     0.923    0.567       0.923

"Differing" users have a level (0.5 in log-odds) and a skill of their own. From some 20 effective users on by user holds
what it says; below, the wider of the two is nearer to it than either, and where users differ it is still too narrow.
`python -m tests.coverage_study` makes such a table again.
Sources: Kish 1965 for the effective number; Cameron & Miller 2015, "A Practitioner's Guide to Cluster-Robust
Inference", section VI, for few clusters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from models.registry.manifest import Interval

Codes = npt.NDArray[np.integer]

LEAST_USERS = 20.0
"""Effective users from which on the by-user interval stands alone."""


@dataclass(frozen=True, slots=True)
class Units:
    """What to redraw for the intervals of one sample.

    drawings: (n,) user of each impression, or None for rows; of several the widest interval counts.
    """

    drawings: tuple[Codes | None, ...]
    why_rows: str = ""
    """Empty where users are redrawn."""

    @classmethod
    def of(cls, clicked: npt.NDArray[np.bool_], user_codes: Codes | None) -> Self:
        """Of n impressions; `user_codes` None where nobody is known."""
        if user_codes is None:
            return cls((None,), "no user is known")
        rarer, held = _rarer(clicked)
        users, code = np.unique(user_codes[rarer], return_inverse=True)
        if not len(users):
            return cls((None,), f"nobody has {held}")
        count = np.bincount(code).astype(np.float64)
        if count.sum() ** 2 / (count @ count) >= LEAST_USERS:
            return cls((user_codes,))
        if len(users) == 1:
            return cls((None,), f"one user has all {held}")
        if len(users) < LEAST_USERS:
            return cls((None, user_codes), f"{len(users)} users have all {held}")
        share = count.max() / count.sum()
        return cls((None, user_codes), f"of {len(users):,} users with {held} one has {100 * share:.0f} %")

    def interval(self, value: float, ends: tuple[float, float], n: int, clicks: int) -> Interval:
        """A figure with the ends of its interval, moved out where the figure lies beyond, and what was redrawn."""
        unit = "rows" if self.why_rows else "users"
        return Interval(value, min(ends[0], value), max(ends[1], value), n, clicks, unit, self.why_rows)


def _rarer(clicked: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], str]:
    """Which impressions have the rarer label, of those that occur, and its name."""
    clicks = int(np.count_nonzero(clicked))
    if clicks == 0 or 0 < len(clicked) - clicks < clicks:
        return ~clicked, "non-clicks"
    return clicked, "clicks"


def widest(ends: Iterable[tuple[float, float] | None], whole: tuple[float, float]) -> tuple[float, float]:
    """The ends of the widest of some intervals; None is one that is not defined, and all such make the whole range."""
    defined = [each for each in ends if each is not None]
    return (min(low for low, _ in defined), max(high for _, high in defined)) if defined else whole

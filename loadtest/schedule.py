"""Schedule: when each request is due, fixed before the run.

Arrivals form a Poisson process: gaps are independent exponentials with mean 1 / rate, as from many users who do not
know of each other. The schedule does not listen to the server: a slow answer delays no later request.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def poisson_schedule(rate_per_s: float, span_s: float, seed: int) -> npt.NDArray[np.float64]:
    """Arrival times of a Poisson process.

    Args:
        rate_per_s: mean arrivals per second, above 0.
        span_s: length of the run in seconds.
        seed: the same seed gives the same arrivals.
    Returns:
        (n,) seconds since the start, rising, all in [0, span_s); n is Poisson distributed with mean rate × span.
    """
    rng = np.random.default_rng(seed)
    mean_count = rate_per_s * span_s
    chunk = math.ceil(mean_count + 6 * math.sqrt(mean_count)) + 1  # one draw suffices but for a chance of about 1e-9
    arrivals = np.cumsum(rng.exponential(1.0 / rate_per_s, size=chunk))
    while arrivals[-1] < span_s:
        more = arrivals[-1] + np.cumsum(rng.exponential(1.0 / rate_per_s, size=chunk))
        arrivals = np.concatenate([arrivals, more])
    return arrivals[: np.searchsorted(arrivals, span_s)]

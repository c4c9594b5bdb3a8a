"""One answer in k is read, and no request of the workload is left out for ever."""

from __future__ import annotations

import pytest

from loadtest.sampler import Sampler


@pytest.mark.parametrize("every", [1, 2, 10, 97])
def test_one_answer_in_so_many_is_read(every: int) -> None:
    """The generator pays for each answer it reads."""
    sampler = Sampler(every)

    n_read = sum(map(sampler.wants, range(1_000, 11_000)))

    assert n_read == pytest.approx(10_000 / every, abs=2)


@pytest.mark.parametrize("n_bodies", [10, 2_000])
def test_every_body_of_a_cycle_is_read_in_the_end(n_bodies: int) -> None:
    """Every tenth number would read the same tenth of the bodies for ever: a service looked whole that was not."""
    sampler = Sampler(10)

    read = {number % n_bodies for number in range(20 * n_bodies) if sampler.wants(number)}

    assert len(read) == n_bodies

"""Questions: in which words each server is asked, and how its answer is read as a ranking.

Ranking servers get the workload's own requests. Model servers that know nothing of users and ads get the same requests
as ready-made matrices and answer one probability a row; the ranking is made of them here, so that it can be compared.
Matrices exist for the workload's own number of candidates only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadtest.baselines.matrices import SERVERS as MATRIX_SERVERS
from loadtest.baselines.matrices import matrix_bodies
from loadtest.errors import DisagreementError
from loadtest.prepared import PreparedRequests, write_prepared
from loadtest.suite.agreement import Ranking, read_ranking
from loadtest.suite.servers import ServerPlan
from loadtest.workload import Workload, rank_bodies

MOST_PREPARED_CANDIDATES = 200_000
"""Distinct requests × candidates prepared for one size: 2 000 of 100, 200 of 1 000."""


@dataclass(frozen=True, slots=True)
class Questions:
    """One server's requests at one number of candidates."""

    requests: PreparedRequests
    file: Path
    """Where they lie for the generators."""
    read: Callable[[int, bytes], Ranking]
    """The ranking in the answer to the request of this number.

    Raises DisagreementError where the answer holds none."""


class _Request(msgspec.Struct):
    """The part of a ranking request that a list of probabilities needs to become a ranking."""

    candidates: list[str]


class QuestionBook:
    """Makes every server's questions once and keeps them in files.

    Args:
        workload: read from `workload_dir`, whose `baseline.json` matrices are made from.
        folder: where the files go.
    """

    def __init__(self, workload: Workload, workload_dir: Path, folder: Path) -> None:
        self.n_candidates = workload.n_candidates
        self._workload = workload
        self._workload_dir = workload_dir
        self._folder = folder
        self._made: dict[tuple[str, int], Questions] = {}

    def for_server(self, plan: ServerPlan, n_candidates: int) -> Questions | None:
        """What to ask a server; None where it cannot be asked for so many candidates."""
        words = plan.name if plan.name in MATRIX_SERVERS else "rank"
        if words != "rank" and n_candidates != self.n_candidates:
            return None
        if n_candidates > self._workload.ads.size:
            return None
        key = (words, n_candidates)
        if key not in self._made:
            self._made[key] = self._matrices(plan.name) if words != "rank" else self._rankings(plan.name, n_candidates)
        return self._made[key]

    def own(self, plan: ServerPlan) -> Questions:
        """What to ask a server at the workload's own number of candidates."""
        questions = self.for_server(plan, self.n_candidates)
        assert questions is not None  # a workload never asks for more candidates than it has ads
        return questions

    def _rankings(self, name: str, n_candidates: int) -> Questions:
        n_bodies = min(self._workload.distinct_bodies, max(1, MOST_PREPARED_CANDIDATES // n_candidates))
        sized = msgspec.structs.replace(self._workload, n_candidates=n_candidates, distinct_bodies=n_bodies)
        return self._keep(
            PreparedRequests(self._workload.path, rank_bodies(sized)),
            f"rank-{n_candidates}",
            lambda number, body: read_ranking(body),
        )

    def _matrices(self, name: str) -> Questions:
        server = MATRIX_SERVERS[name]
        asked = [msgspec.json.decode(body, type=_Request).candidates for body in rank_bodies(self._workload)]

        def read(number: int, body: bytes) -> Ranking:
            try:
                p_click = server.p_click(body)
                rows = zip(asked[number % len(asked)], p_click, strict=True)
                return sorted(rows, key=lambda row: -row[1])
            except (msgspec.DecodeError, LookupError, ValueError, TypeError) as error:
                raise DisagreementError(
                    f"an answer of {name} holds no probabilities ({error!r}): {body[:200]!r}"
                ) from error

        bodies = matrix_bodies(name, self._workload_dir)
        return self._keep(PreparedRequests(server.path, bodies), f"matrix-{name}", read)

    def _keep(self, requests: PreparedRequests, name: str, read: Callable[[int, bytes], Ranking]) -> Questions:
        file = self._folder / f"requests-{name}.msgpack"
        write_prepared(requests, file)
        return Questions(requests, file, read)

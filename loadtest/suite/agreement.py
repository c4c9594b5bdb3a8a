"""Agreement: do two servers answer the same requests with the same probabilities in the same order?

A server that skips half of the work is fast. Some hundred requests of the workload are sent to each server before
anything is timed, and a sample of the answers given under load is checked again.

Probabilities may differ by `TOLERANCE` (float32 graphs, sums in another order); ads whose probabilities differ by less
than that may stand in any order.

An answer that carries a degraded code says itself that it was made from less: the machine stood still for a moment, and
a deadline came first. It is no disagreement and proves nothing either, so it is left out and counted. Where fewer than
half are left to compare, the server does other work most of the time, and that is a disagreement.
"""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from loadtest.errors import DisagreementError, TargetError
from loadtest.target import PROBE_TIMEOUT_S, Target

TOLERANCE = 1e-6
"""The bound of the proof every served model has passed (docs: model artifact)."""


class _Result(msgspec.Struct):
    ad_id: str
    p_click: float


class _Ranking(msgspec.Struct):
    """The part of an answer that is compared; the rest is skipped without being built."""

    results: list[_Result]


class _Admission(msgspec.Struct):
    """What an answer says it lacks; a model server's list of probabilities admits nothing."""

    degraded: list[str] = []


class Agreement(msgspec.Struct, frozen=True):
    """How far a server's answers are from the reference."""

    n_requests: int
    n_candidates: int
    largest_difference: float
    """Of two probabilities of the same candidate."""
    n_degraded: int = 0
    """Answers left out because they carried a degraded code."""


_DECODER = msgspec.json.Decoder(_Ranking)
_ADMISSION = msgspec.json.Decoder(_Admission)

Ranking = Sequence[tuple[str, float]]
"""(ad id, p_click), best first."""


@dataclass(slots=True)
class Readings:
    """Answers of one server as rankings, without those that carry a degraded code."""

    whole: list[tuple[int, Ranking]] = field(default_factory=list)
    """(number of the request, ranking)."""
    n_degraded: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    """How many of the degraded answers carry each code."""

    def __iadd__(self, other: Readings) -> Readings:
        self.whole += other.whole
        self.n_degraded += other.n_degraded
        self.codes += other.codes
        return self

    def check_that_most_are_whole(self, name: str) -> None:
        """A lone degraded answer is a hiccup, even where no other was kept.

        Raises:
            DisagreementError: more of them are degraded than whole.
        """
        if self.n_degraded > max(1, len(self.whole)):
            codes = ", ".join(f"{n} {code}" for code, n in self.codes.most_common())
            raise DisagreementError(
                f"{name}: {self.n_degraded} of {self.n_degraded + len(self.whole)} answers are degraded ({codes}), "
                "fewer than half can be compared; mend what the codes name, or measure on a machine with less to do"
            )


def read_ranking(body: bytes) -> Ranking:
    """What an answer says.

    Raises:
        DisagreementError: it is not a ranking; shows its beginning.
    """
    try:
        return [(result.ad_id, result.p_click) for result in _DECODER.decode(body).results]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DisagreementError(f"an answer is no ranking ({error}): {body[:200]!r}") from error


def read_answers(answers: Iterable[tuple[int, bytes]], read: Callable[[int, bytes], Ranking]) -> Readings:
    """Rankings of the answers (number of the request, body) that carry no degraded code.

    Args:
        read: the ranking in the answer to the request of this number.
    Raises:
        DisagreementError: an answer without a code is no ranking.
    """
    readings = Readings()
    for number, body in answers:
        codes = _degraded_codes(body)
        if codes:
            readings.n_degraded += 1
            readings.codes.update(codes)
        else:
            readings.whole.append((number, read(number, body)))
    return readings


def _degraded_codes(body: bytes) -> set[str]:
    try:
        return set(_ADMISSION.decode(body).degraded)
    except (msgspec.DecodeError, UnicodeDecodeError):  # whoever reads it as a ranking says what it is
        return set()


def ask_all(name: str, target: Target, path: str, bodies: Iterable[bytes]) -> list[bytes]:
    """Send requests one after the other over one connection and return the answers' bodies.

    Raises:
        TargetError: no answer, or one without status 200.
    """
    connection = http.client.HTTPConnection(target.host, target.port, timeout=PROBE_TIMEOUT_S)
    answers = []
    try:
        for body in bodies:
            connection.request("POST", target.base_path + path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answers.append(response.read())
            if response.status != 200:
                raise TargetError(f"{name} answered {response.status}: {answers[-1][:300]!r}")
    except (OSError, http.client.HTTPException) as error:
        raise TargetError(f"{name} at {target.url} gave no answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    return answers


def compare(name: str, reference: Mapping[int, Ranking], given: Iterable[tuple[int, Ranking]]) -> Agreement:
    """Hold rankings against those of the reference server.

    Args:
        reference: by number of the request.
        given: (number of the request, ranking); numbers the reference does not hold are passed over.
    Raises:
        DisagreementError: other candidates, a probability off by more than the tolerance, or another order.
    """
    n_requests, n_candidates, largest = 0, 0, 0.0
    for number, ranking in given:
        if number not in reference:
            continue
        wanted = dict(reference[number])
        if len(ranking) != len(wanted) or {ad_id for ad_id, _ in ranking} != wanted.keys():
            raise DisagreementError(
                f"{name}, request {number}: {len(ranking)} results that are not the {len(wanted)} wanted candidates"
            )
        for ad_id, p_click in ranking:
            if not abs(p_click - wanted[ad_id]) <= TOLERANCE:
                raise DisagreementError(
                    f"{name}, request {number}, {ad_id}: p_click {p_click!r}, the reference says {wanted[ad_id]!r}"
                )
            largest = max(largest, abs(p_click - wanted[ad_id]))
        _check_order(name, number, ranking)
        n_requests += 1
        n_candidates += len(ranking)
    return Agreement(n_requests, n_candidates, largest)


def _check_order(name: str, number: int, ranking: Ranking) -> None:
    lowest = float("inf")
    for ad_id, p_click in ranking:
        if p_click > lowest + TOLERANCE:
            raise DisagreementError(f"{name}, request {number}: {ad_id} with {p_click!r} stands below {lowest!r}")
        lowest = min(lowest, p_click)

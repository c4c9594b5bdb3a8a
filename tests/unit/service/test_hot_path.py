"""What a hot path does with a request's time, on a clock that the test turns."""

from __future__ import annotations

import pytest

from feature_store.clock import system_clock
from feature_store.online.memory_store import MemoryStore
from service.admission import Admission
from service.answering import Answer
from service.asgi import REFUSED_STATUS, Message
from service.deadline import Deadline
from service.hot_path import HotPath
from service.model_slots import ModelSlots
from service.readiness import Readiness
from service.request_id import RequestIds
from service.settings import AdmissionSettings, DeadlineSettings
from service.telemetry import Telemetry


class Caller:
    """A hot path, its clock, and a caller that takes its time between two events."""

    def __init__(self, *events: Message) -> None:
        self.now_s = 0.0
        self.remaining_ms: list[float] = []
        self.telemetry = Telemetry()
        self._events = iter(events)
        self._hot_path = HotPath(
            "/v1/rank",
            lambda headers: self._use,
            admission=Admission(AdmissionSettings(), self._clock),
            readiness=Readiness(MemoryStore("shop"), ModelSlots(), system_clock),
            request_ids=RequestIds(),
            deadline=DeadlineSettings(total_ms=30.0),
            max_body_bytes=1_000,
            clock=self._clock,
            telemetry=self.telemetry,
        )

    async def asks(self, **state: object) -> None:
        """Sends the head, then one event every two seconds."""
        await self._hot_path({"method": "POST", "headers": [], "state": state}, self._receive, self._send)

    def counted(self, code: str) -> float | None:
        """Requests counted with that status."""
        return self.telemetry.registry.get_sample_value(
            "clickserve_requests_total", {"route": "/v1/rank", "code": code}
        )

    def _clock(self) -> float:
        return self.now_s

    async def _receive(self) -> Message:
        self.now_s += 2.0
        return next(self._events)

    async def _send(self, message: Message) -> None:
        """The answer is of no interest here."""

    async def _use(self, body: bytes | bytearray, deadline: Deadline, request_id: str) -> Answer:
        self.remaining_ms.append(deadline.remaining_ms())
        return Answer(bytes(body), "v1", "", b"application/json")


async def test_a_body_that_comes_slowly_spends_its_own_time() -> None:
    """The deadline is ours to keep once we have the whole request; answering 504 would blame the scoring."""
    caller = Caller(
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.request", "body": b"}", "more_body": False},
    )

    await caller.asks()

    assert caller.remaining_ms == pytest.approx([30.0])
    assert caller.counted("200") == 1


async def test_a_body_that_the_server_gave_up_is_counted_with_its_answer() -> None:
    """The caller was told 408; 499 would say that it left."""
    caller = Caller({"type": "http.disconnect"})

    await caller.asks(**{REFUSED_STATUS: 408})

    assert caller.counted("408") == 1
    assert caller.counted("499") is None

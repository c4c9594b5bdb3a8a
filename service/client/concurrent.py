"""The client for programs on an asyncio event loop: `AsyncClient`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar

import httpx

from service.client import questions
from service.client.answers import ModelSlot, PredictAnswer, RankAnswer, ReadyAnswer
from service.client.attempts import Call, RetryPolicy
from service.client.errors import ClickserveError
from service.client.exchange import Terms
from service.client.questions import Question
from service.client.requests import Candidates, Context, EntityId, Instance

T = TypeVar("T")


class AsyncClient:
    """Asks a service; belongs to one event loop. Use it in `async with`, or call `aclose`."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 5.0,
        connect_timeout_s: float = 1.0,
        network_ms: float = 2.0,
        retry: RetryPolicy | None = None,
        max_connections: int = 100,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Knows a service; connects when first asked.

        Args:
            base_url: `http://host:port` or `https://…`; a path in front of the routes may follow.
            timeout_s: for a whole call, attempts and waits included; a call's own `deadline_ms` can shorten it.
            connect_timeout_s: for one connection; less than `timeout_s`, so that another can be tried.
            network_ms: of a deadline, what is kept for the way of the answer: the service is told to answer so much
                earlier, at most half of the time.
            retry: how often and when to try again; `RetryPolicy(max_attempts=1)` never does.
            max_connections: open at once; calls beyond it wait for one.
            headers: sent with every request.
            ssl_context: for https; the system's authorities where None.
        Raises:
            ValueError: `base_url` is no such address, a time is not more than 0, or a header is no line of ASCII.
        """
        self._terms = Terms.of(
            base_url, timeout_s, connect_timeout_s, network_ms, retry, max_connections, headers, ssl_context
        )
        self._http = httpx.AsyncClient(**self._terms.http_options)

    async def rank(
        self,
        user_id: EntityId | None,
        candidates: Candidates,
        *,
        context: Context | None = None,
        top_k: int | None = None,
        model: str | None = None,
        explain: bool = False,
        deadline_ms: float | None = None,
        request_id: str | None = None,
    ) -> RankAnswer:
        """Which of these candidates will this user click? Best first.

        Args:
            user_id: None where the model has no features of users.
            candidates: ids, or `Candidate`s with bids, or a bid by id: {"a1": 1.2}.
            context: what is known about the request itself.
            top_k: how many of the best; all where None.
            model: the slot; `default` where None.
            explain: say with each result which features made it so.
            deadline_ms: when the answer becomes worthless; the service is told, and answers with what it has by then.
            request_id: the name of the request in answers and logs; the service makes one where None.
        Raises:
            ClickserveError: there is no answer; `service/client/errors.py` has the tree.
            ValueError: a number is not finite, the deadline is no time, or `request_id` is not 1 to 128 visible ASCII
                characters.
            TypeError: an id or a value of the context is of a type that JSON has no form for, such as bytes or a time.
        """
        return await self._answer(
            questions.rank(
                user_id,
                candidates,
                context=context,
                top_k=top_k,
                model=model,
                explain=explain,
                deadline_ms=deadline_ms,
                request_id=request_id,
            )
        )

    async def predict(
        self,
        instances: Iterable[Instance],
        *,
        model: str | None = None,
        explain: bool = False,
        deadline_ms: float | None = None,
        request_id: str | None = None,
    ) -> PredictAnswer:
        """How likely is each of these clicks? In the order of the instances. Arguments and errors as for `rank`."""
        return await self._answer(
            questions.predict(instances, model=model, explain=explain, deadline_ms=deadline_ms, request_id=request_id)
        )

    async def models(self) -> list[ModelSlot]:
        """The slots and the models in them."""
        return (await self._answer(questions.MODELS)).models

    async def ready(self) -> ReadyAnswer:
        """Whether the service wants requests. Raises Unreachable where nobody is there to say so."""
        return await self._answer(questions.READY)

    async def aclose(self) -> None:
        """Gives the connections back."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _answer(self, question: Question[T]) -> T:
        call = self._terms.call(question.deadline_ms)
        while True:
            try:
                return await self._attempt(question, call)
            except ClickserveError as error:
                wait_s = call.wait_before_next(error)
            await asyncio.sleep(wait_s)

    async def _attempt(self, question: Question[T], call: Call) -> T:
        try:
            async with asyncio.timeout(call.remaining_s()):
                response = await self._http.send(self._terms.request(self._http, question, call))
        except TimeoutError:
            raise call.out_of_time() from None
        except httpx.HTTPError as error:
            raise self._terms.failure(error, call) from None  # its message says what httpx said
        return self._terms.read(response, response.content, question)

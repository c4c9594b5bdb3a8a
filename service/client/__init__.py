"""The Python client of a running service, sync and async (`docs/python-client.md`).

    with Client("http://127.0.0.1:8080") as client:
        answer = client.rank("u1", ["a1", "a2"], context={"device": "phone"}, deadline_ms=20)

Needs httpx and msgspec and nothing else of the service, so it is cheap to import elsewhere. What it says is the wire's
own words: fields have the names of `/openapi.json`, and fields and codes of a newer service do no harm.
"""

from service.client.answers import (
    Contribution,
    Explanation,
    FeatureCounts,
    ModelReference,
    ModelSlot,
    PredictAnswer,
    Prediction,
    RankAnswer,
    ReadyAnswer,
    Result,
)
from service.client.attempts import RetryPolicy
from service.client.blocking import Client
from service.client.concurrent import AsyncClient
from service.client.errors import (
    ClickserveError,
    DeadlineExceeded,
    ErrorDetail,
    MalformedAnswer,
    Overloaded,
    RejectedRequest,
    ServiceFault,
    Unreachable,
)
from service.client.requests import Candidate, Instance

__all__ = [
    "AsyncClient",
    "Candidate",
    "ClickserveError",
    "Client",
    "Contribution",
    "DeadlineExceeded",
    "ErrorDetail",
    "Explanation",
    "FeatureCounts",
    "Instance",
    "MalformedAnswer",
    "ModelReference",
    "ModelSlot",
    "Overloaded",
    "PredictAnswer",
    "Prediction",
    "RankAnswer",
    "ReadyAnswer",
    "RejectedRequest",
    "Result",
    "RetryPolicy",
    "ServiceFault",
    "Unreachable",
]

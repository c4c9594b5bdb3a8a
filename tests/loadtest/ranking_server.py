"""A small ranking server for tests of the suite: probabilities follow from the ids alone.

python ranking_server.py PORT [--wrong | --echo] [--degraded=FROM,EVERY]

--wrong answers other probabilities, --echo answers {}. --degraded: from answer FROM on (the first is 1) one in EVERY
says `deadline_partial` and holds no probability.
"""

from __future__ import annotations

import itertools
import json
import sys
import zlib
from typing import Any

import uvicorn


def _degraded_from_every() -> tuple[int, int]:
    given = [argument.partition("=")[2] for argument in sys.argv if argument.startswith("--degraded=")]
    first, every = map(int, given[0].split(",")) if given else (sys.maxsize, 1)
    return first, every


ANSWERS = itertools.count(1)
DEGRADED_FROM, DEGRADED_EVERY = _degraded_from_every()


def p_click(user_id: str, ad_id: str) -> float:
    """The same on every machine."""
    return zlib.crc32(f"{user_id} {ad_id}".encode()) / 2**32


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Ranks the candidates of any POST."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    answer: dict[str, Any] = {}
    if "--echo" not in sys.argv:
        request = json.loads(body)
        shift = 0.1 if "--wrong" in sys.argv else 0.0
        results = [{"ad_id": ad, "p_click": p_click(request["user_id"], ad) + shift} for ad in request["candidates"]]
        answer = {"results": sorted(results, key=lambda result: -result["p_click"]), "degraded": []}
        number = next(ANSWERS)
        if number >= DEGRADED_FROM and number % DEGRADED_EVERY == 0:
            nothing = [{"ad_id": ad, "p_click": None} for ad in request["candidates"]]
            answer = {"results": nothing, "degraded": ["deadline_partial"]}
    content = json.dumps(answer).encode()
    headers = [(b"content-length", str(len(content)).encode()), (b"server-timing", b"features;dur=0.2, model;dur=0.1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), lifespan="off", log_level="warning")

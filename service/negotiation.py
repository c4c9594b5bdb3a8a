"""Which form a body has, and which form its caller wants for the answer.

The content type of a request names its form, and what is commonly sent by mistake is taken for JSON. The answer has the
form that `Accept` names, a frame before JSON; where it names neither, the form of the request. Nothing is refused for
its `Accept`, quality values are not weighed, and problems are always JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from service.answering import Answer
from service.binary_frame import ANSWER_MEDIA, FRAME, REQUEST_MEDIA
from service.deadline import Deadline
from service.errors import UnsupportedMedia
from service.rank_form import JSON, RankForm

UseCase = Callable[[bytes | bytearray, Deadline, str], Awaitable[Answer]]
"""Body, deadline and request id in, answer out."""

RankUseCase = Callable[[RankForm, RankForm, bytes | bytearray, Deadline, str], Awaitable[Answer]]
"""The same behind the forms of request and answer."""

Negotiate = Callable[[Mapping[bytes, bytes]], UseCase]
"""The use case for a request with these headers. Raises UnsupportedMedia."""

JSON_MEDIA = b"application/json"
FRAME_MEDIA = REQUEST_MEDIA.encode()
TAKEN_FOR_JSON = frozenset((b"", JSON_MEDIA, b"application/x-www-form-urlencoded"))
"""The last is what `curl -d` announces, whatever it sends. Both routes only read, so a forged form can do no harm."""

ANYTHING = b"*/*"


def json_only(use_case: UseCase) -> Negotiate:
    """A route that knows JSON alone."""

    def negotiate(headers: Mapping[bytes, bytes]) -> UseCase:
        _media_of(headers, TAKEN_FOR_JSON)
        return use_case

    return negotiate


def json_or_frames(rank: RankUseCase) -> Negotiate:
    """`/v1/rank`."""
    forms = (JSON, FRAME)
    use_cases = [[partial(rank, asked, answered) for answered in forms] for asked in forms]
    known = TAKEN_FOR_JSON | {FRAME_MEDIA}

    def negotiate(headers: Mapping[bytes, bytes]) -> UseCase:
        asks_in_frames = _media_of(headers, known) == FRAME_MEDIA
        accept = headers.get(b"accept", ANYTHING)
        wants_frames = asks_in_frames if accept == ANYTHING else _wants_frames(accept, like=asks_in_frames)
        return use_cases[asks_in_frames][wants_frames]

    return negotiate


def _media_of(headers: Mapping[bytes, bytes], known: frozenset[bytes]) -> bytes:
    """The announced media type, one of the known. Raises UnsupportedMedia."""
    announced = headers.get(b"content-type", b"")
    media = announced if announced in known else _essence(announced)
    if media not in known:
        expected = " or ".join(sorted(name.decode() for name in known & {JSON_MEDIA, FRAME_MEDIA}))
        raise UnsupportedMedia(f"expected {expected}, got {media[:40].decode('latin-1')!r}", "Content-Type")
    coding = headers.get(b"content-encoding", b"")
    if coding and coding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMedia(
            f"expected an uncompressed body, got {coding[:40].decode('latin-1')!r}", "Content-Encoding"
        )
    return media


def _wants_frames(accept: bytes, *, like: bool) -> bool:
    wanted = set(map(_essence, accept.split(b",")))
    if ANSWER_MEDIA.encode() in wanted:
        return True
    return like and JSON_MEDIA not in wanted


def _essence(media: bytes) -> bytes:
    """A media type without its parameters."""
    return media.partition(b";")[0].strip().lower()

"""Every request has a name that a log line and a header survive."""

from __future__ import annotations

import pytest

from service.request_id import RequestIds

TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("sent", [b"a", b"req-1/2:3", b"!~", b"x" * 128])
def test_a_visible_ascii_id_is_kept(sent: bytes) -> None:
    """The caller's name joins both logs."""
    assert RequestIds().of(sent, TRACEPARENT) == sent.decode()


@pytest.mark.parametrize("sent", [b"", b"x" * 129, b"two words", b"tab\t", b"new\nline", "é".encode(), b"\x7f"])
def test_any_other_id_is_replaced(sent: bytes) -> None:
    """It could forge log lines or headers."""
    assert RequestIds().of(sent, None) != sent.decode()


def test_without_an_id_the_trace_names_the_request() -> None:
    """One name less to look up."""
    assert RequestIds().of(None, TRACEPARENT) == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "traceparent",
    [
        b"",
        b"ff" + TRACEPARENT[2:],
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        TRACEPARENT.upper(),
        TRACEPARENT[:-3],
        TRACEPARENT + b"-more",
    ],
)
def test_a_broken_trace_names_nothing(traceparent: bytes) -> None:
    """W3C: an invalid traceparent is ignored, not repaired."""
    assert "-" in RequestIds().of(None, traceparent)


def test_a_trace_of_a_later_version_names_the_request() -> None:
    """W3C: what a later version adds at the end is not read."""
    later = b"01" + TRACEPARENT[2:] + b"-more"

    assert RequestIds().of(None, later) == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_new_ids_are_unique_across_processes() -> None:
    """Workers count apart from each other."""
    one, other = RequestIds(), RequestIds()

    ids = {numbers.of(None, None) for numbers in (one, one, other, other)}

    assert len(ids) == 4

"""At home anywhere: the claims of `make prove PART=stack`; each part of the stack has its file."""

from __future__ import annotations

from tests.proofs import (
    stack_alerts,
    stack_image,
    stack_import,
    stack_newcomer,
    stack_redis,
    stack_refusals,
    stack_report,
    stack_traces,
)

CLAIMS = [
    *stack_image.CLAIMS,
    *stack_import.CLAIMS,
    *stack_newcomer.CLAIMS,
    *stack_redis.CLAIMS,
    *stack_refusals.CLAIMS,
    *stack_traces.CLAIMS,
    *stack_alerts.CLAIMS,
    *stack_report.CLAIMS,
]
SHORT_CLAIMS = stack_report.SHORT_CLAIMS
"""Of the parts that have a short form."""

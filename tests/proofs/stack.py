"""At home anywhere: the claims of `make prove PART=stack`; each part of the stack has its file."""

from __future__ import annotations

from tests.proofs import stack_alerts, stack_import, stack_traces

CLAIMS = [*stack_import.CLAIMS, *stack_traces.CLAIMS, *stack_alerts.CLAIMS]

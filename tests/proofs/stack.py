"""What the stack and what stands around the service must show; each part has its file."""

from __future__ import annotations

from tests.proofs import stack_traces

CLAIMS = [*stack_traces.CLAIMS]

"""The claims of being at home anywhere: the stack, the stranger's model, any Redis."""

from __future__ import annotations

from tests.proofs.stack_redis import CLAIMS as ON_ANY_REDIS

CLAIMS = [*ON_ANY_REDIS]

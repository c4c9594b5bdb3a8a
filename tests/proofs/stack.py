"""At home anywhere: the claims of `make prove PART=stack`, from the parts there are."""

from __future__ import annotations

from tests.proofs import stack_import

CLAIMS = (*stack_import.CLAIMS,)

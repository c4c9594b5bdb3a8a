"""Every part of the proofs can be run: a proof that only fails to import would be noticed by nobody for weeks."""

from __future__ import annotations

import importlib
import json
from collections import Counter

import pytest

from tests.proofs.__main__ import PARTS
from tests.proofs.claim import REPOSITORY


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_claims_with_names_of_their_own(part: str) -> None:
    """A second claim of a name would overwrite the first one's record."""
    claims = importlib.import_module(PARTS[part]).CLAIMS

    names = Counter(claim.name for claim in claims)

    assert names
    assert max(names.values()) == 1


@pytest.mark.parametrize("part", PARTS)
def test_what_is_recorded_is_still_claimed(part: str) -> None:
    """A record without its claim cannot be seen again by anybody."""
    claims = {claim.name for claim in importlib.import_module(PARTS[part]).CLAIMS}

    recorded = set(json.loads((REPOSITORY / f"docs/proofs/{part}.json").read_text()))

    assert recorded <= claims

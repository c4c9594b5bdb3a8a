"""Variants and inner parts of a suite: settings that exist, and figures that are read or refused."""

from __future__ import annotations

import pytest

from loadtest.errors import EngineError
from loadtest.suite.inner_parts import AdMemory, read_part, run_module
from loadtest.suite.variants import Variant, read_variants
from service.settings import Settings
from service.settings_origins import load_settings


@pytest.mark.parametrize("variant", read_variants(), ids=lambda variant: variant.name)
def test_a_variant_switches_a_setting_that_exists(variant: Variant) -> None:
    """One that does not would fail to start, or be measured as the whole service."""
    assert load_settings(None, variant.environment, {}) != Settings()


def test_the_figures_of_a_part_are_read() -> None:
    """The real module, one round: what it prints is what the pages expect."""
    said = run_module("loadtest.micro.ad_memory", ["--json", "--rounds", "1"], None)

    memory = read_part("ad_memory", said, AdMemory)

    assert [cost.trees for cost in memory.plans] == [50, 100, 200, 500, 1_000]
    assert all(cost.switches_at_ads * cost.mask_bytes_per_ad <= 512 * 2**20 for cost in memory.plans)


def test_a_part_that_fails_says_why() -> None:
    """Its last words are the reason in the report."""
    with pytest.raises(EngineError, match=r"(?s)ad_memory ended with status 2; it said: .*--wrong"):
        run_module("loadtest.micro.ad_memory", ["--wrong"], None)


def test_a_part_that_prints_something_else_is_refused() -> None:
    """Half a document would be half a table."""
    with pytest.raises(EngineError, match="printed something else than its figures"):
        read_part("ad_memory", b"{}", AdMemory)

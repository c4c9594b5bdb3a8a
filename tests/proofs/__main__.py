"""Runs the claims of one part: `python -m tests.proofs first-light [--only NAME …]`; `--help` names the options."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

from feature_store.errors import FeatureStoreError
from loadtest.errors import LoadTestError
from service.ended_by_signal import EndedBySignal
from tests.proofs.claim import REPOSITORY, Claim, Outcome, record

PARTS = {
    "first-light": "tests.proofs.first_light",
    "hot-path": "tests.proofs.hot_path",
    "learning": "tests.proofs.learning",
    "stack": "tests.proofs.stack",
}


def main() -> int:
    """Exit 0 when every claim that ran holds, 1 otherwise; SIGTERM stops the servers of the claim that runs."""
    EndedBySignal()
    parser = argparse.ArgumentParser(prog="make prove", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these claims and keep the others' results")
    parser.add_argument("--skip", nargs="+", metavar="NAME", default=[], help="do not run these claims")
    parser.add_argument(
        "--short", action="store_true", help="measure briefly, to see that claims run; verdicts are not recorded"
    )
    parser.add_argument("--list", action="store_true", help="name the claims and run none")
    options = parser.parse_args()
    part = importlib.import_module(PARTS[options.part])
    if options.short and not hasattr(part, "SHORT_CLAIMS"):
        parser.error(f"{options.part} has no short form")
    claims: list[Claim] = part.SHORT_CLAIMS if options.short else part.CLAIMS
    if options.list:
        for claim in claims:
            print(f"{claim.name}: {claim.bound}")
        return 0
    unknown = {*(options.only or ()), *options.skip} - {claim.name for claim in claims}
    if unknown:
        parser.error(f"no such claim: {', '.join(sorted(unknown))}; --list names them")
    failed = 0
    for claim in claims:
        if (options.only and claim.name not in options.only) or claim.name in options.skip:
            continue
        print(f"{claim.name}: {claim.bound}", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="clickserve-proof-") as scratch:
            try:
                outcome = claim.measure(Path(scratch))
            except (RuntimeError, OSError, LoadTestError, FeatureStoreError) as error:
                outcome = Outcome(f"did not run: {error}", False, {})
        seconds = time.monotonic() - started
        if not options.short:
            record(REPOSITORY / "docs" / "proofs" / f"{options.part}.json", claim, outcome, seconds)
        print(f"  {'holds' if outcome.holds else 'FAILS'} in {seconds:.0f} s: {outcome.value}", flush=True)
        failed += not outcome.holds
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

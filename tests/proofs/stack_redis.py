"""Claims on any Redis: one contract on every kind of server, and a Cluster that loses a master under load."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from feature_store.online.layout import ViewKeys
from tests.artifacts import ServedProject, make_served_project
from tests.e2e.conftest import serve_arguments
from tests.e2e.failover import Loss, lose
from tests.e2e.service_process import service
from tests.proofs.claim import REPOSITORY, Claim, Outcome
from tests.redis_servers.cluster import NODE_TIMEOUT_MS, Cluster
from tests.redis_servers.programs import PROGRAMS, version_of
from tests.redis_servers.server import wait_for
from tests.redis_servers.stores import KINDS

WELL_WITHIN_S = 10.0
RUNS = ("kill", "freeze", "kill")
COVERAGE = ("yes", "no")


def contract(scratch: Path) -> Outcome:
    """The contract suite, every test on every kind of server; a kind that was skipped did not pass."""
    report = scratch / "report"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-rA", "-p", "no:cacheprovider", "tests/contracts"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    report.write_text(done.stdout)
    passed = {
        kind: len(re.findall(rf"^PASSED .*\[{re.escape(kind)}[\]-]", done.stdout, re.MULTILINE)) for kind in KINDS
    }
    versions = {version: version_of(program()).partition(" sha=")[0] for version, program in PROGRAMS.items()}
    return Outcome.judged(
        f"{done.stdout.strip().splitlines()[-1]}; of these "
        + ", ".join(f"{n} on {kind}" for kind, n in passed.items())
        + f"; {', '.join(versions.values())}",
        {
            "every test passes": done.returncode == 0,
            "on every kind": len(set(passed.values())) == 1 and min(passed.values()) > 0,
        },
        {"passed": passed, "versions": versions},
    )


def master_lost(scratch: Path) -> Outcome:
    """Three masters and three replicas, one master killed or frozen while nine users ask without pause."""
    project = make_served_project(scratch / "project")
    runs: list[dict[str, Any]] = []
    for version, program in PROGRAMS.items():
        for coverage in COVERAGE:
            for number, how in enumerate(RUNS):
                folder = scratch / f"{version}-{coverage}-{number}"
                loss = asyncio.run(_one_loss(project, program(), folder, how, coverage))
                figures = dataclasses.asdict(loss) | {"statuses": {str(s): n for s, n in loss.statuses.items()}}
                runs.append({"version": version, "full_coverage": coverage, "how": how} | figures)
    slowest = max(run["well_after_s"] for run in runs)
    others = max(run["other_share"] for run in runs if run["full_coverage"] == "no")
    answers = sum(sum(run["statuses"].values()) for run in runs)
    return Outcome.judged(
        f"{len(runs)} losses, {answers:,} answers, statuses {sorted({s for run in runs for s in run['statuses']})}; "
        f"last degraded answer {min(run['well_after_s'] for run in runs):.1f} to {slowest:.1f} s after the loss "
        f"(cluster-node-timeout {NODE_TIMEOUT_MS} ms); without full coverage at most {others:.1%} of the answers about "
        "other masters' users were degraded meanwhile",
        {
            "no answer but 200": all(set(run["statuses"]) == {"200"} and not run["lost"] for run in runs),
            "nothing degraded before": all(run["healthy_share"] == 0 for run in runs),
            "the loss was felt": all(run["hurt_share"] > 0 for run in runs),
            f"back to 0 within {WELL_WITHIN_S:g} s": slowest <= WELL_WITHIN_S,
        },
        {"runs": runs},
    )


async def _one_loss(project: ServedProject, program: str, folder: Path, how: str, coverage: str) -> Loss:
    with Cluster.running(program, folder / "redis", "--cluster-require-full-coverage", coverage) as cluster:
        project.materialize(cluster.url)
        wait_for(cluster.is_replicated, "the replicas to follow")
        keys = ViewKeys(project.schema.project, project.users.view)
        victim = cluster.masters()[1]
        of_victim = [user for user in project.users.entity_ids if cluster.owner(keys.row(user)) is victim][:3]
        others = [user for user in project.users.entity_ids if cluster.owner(keys.row(user)) is not victim][:6]
        with service(*serve_arguments(project, cluster.url, folder)) as process:
            process.wait_for("ready")
            return await lose(process, project, of_victim, others, getattr(victim, how))


def _measured(measure: Any) -> Any:
    """Tells a program that is not there, as pytest would, in the outcome."""

    def outcome(scratch: Path) -> Outcome:
        try:
            result: Outcome = measure(scratch)
        except pytest.skip.Exception as missing:
            return Outcome(f"did not run: {missing.msg}", False, {})
        return result

    return outcome


CLAIMS = [
    Claim(
        "any-redis-contract",
        "python -m pytest tests/contracts",
        "the contract suite passes on Redis 6.2, 7.0 and Valkey 9, alone and as a Cluster, with least rights, on TLS "
        "with client certificates, and behind Sentinels",
        _measured(contract),
    ),
    Claim(
        "cluster-loses-a-master",
        "python -m tests.proofs stack --only cluster-loses-a-master",
        f"a master of three killed or frozen under load: no 5xx, degraded share back to 0 within {WELL_WITHIN_S:g} s",
        _measured(master_lost),
    ),
]

"""What the doctor says about a machine, on control groups made by the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.checkup.finding import Finding
from service.checkup.machine import check_machine, cores_to_use
from service.settings import ServerSettings, Settings


def finding(check: str, findings: list[Finding]) -> Finding:
    """The one finding of that check."""
    (found,) = [found for found in findings if found.check == check]
    return found


def cgroup(folder: Path, **files: str) -> Path:
    """A control group with these files; `__` in a name is a dot."""
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_a_quota_smaller_than_the_machine_decides(tmp_path: Path) -> None:
    """In a container the core count is the host's, and what may be used is the quota."""
    group = cgroup(tmp_path, cpu__max="50000 100000\n")

    assert cores_to_use(group) == 0.5


@pytest.mark.parametrize("text", ["max 100000\n", None])
def test_without_a_quota_the_cpu_mask_decides(tmp_path: Path, text: str | None) -> None:
    """No limit is written as `max`, or not at all."""
    group = cgroup(tmp_path, cpu__max=text) if text else tmp_path

    assert cores_to_use(group) == len(os.sched_getaffinity(0))


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    """Older container hosts still have it."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("25000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")

    assert cores_to_use(tmp_path) == 0.25


def test_more_workers_than_cores_get_the_number_that_fits(tmp_path: Path) -> None:
    """They would share the cores and make each other late."""
    group = cgroup(tmp_path, cpu__max="150000 100000\n")
    settings = Settings(server=ServerSettings(workers=64))

    found = finding("workers", check_machine(settings, group))

    assert found.verdict == "warning"
    assert "server.workers = 1" in found.advice


def test_throttling_is_found(tmp_path: Path) -> None:
    """It shows in no average, only in the latency of whoever is hit."""
    group = cgroup(tmp_path, cpu__stat="usage_usec 5\nnr_periods 100\nnr_throttled 7\n")

    found = finding("cpu quota", check_machine(Settings(), group))

    assert (found.verdict, found.seen) == ("warning", "throttled in 7 of 100 periods")


def test_this_machine_has_the_fast_parts(tmp_path: Path) -> None:
    """They are locked dependencies: what is absent here would be absent everywhere."""
    findings = check_machine(Settings(), tmp_path)

    assert {finding(name, findings).verdict for name in ("uvloop", "httptools", "hiredis")} == {"ok"}


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path: Path) -> None:
    """A doctor without advice is a thermometer."""
    group = cgroup(tmp_path, cpu__max="1000 100000\n", cpu__stat="nr_periods 1\nnr_throttled 1\n")

    findings = check_machine(Settings(server=ServerSettings(workers=9, backlog=10**9)), group)

    assert {found.check for found in findings if found.verdict != "ok"} >= {"workers", "cpu quota", "listen queue"}
    assert all(found.advice for found in findings if found.verdict != "ok")

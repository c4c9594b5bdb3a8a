"""Commit hooks: the checks of `make check`, from the locked environment."""

from __future__ import annotations

from pathlib import Path

import yaml


def test_hooks_need_no_network(repository: Path) -> None:
    """A hook repository would be cloned at the first commit, and its versions would drift from the lock's."""
    repos = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())["repos"]
    (local,) = repos

    assert local["repo"] == "local"
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in local["hooks"])
    assert [hook["id"] for hook in local["hooks"]] == ["ruff-check", "ruff-format", "mypy"]

"""Marked snippets of the README and of `docs/`, run as they stand.

A fenced block is run when a comment `<!-- runs: NAME -->` stands above it; `<!-- file: NAME -->` writes the block into
a file of that name. Only the port is changed, to one that is free.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.e2e.service_process import ServiceProcess, service

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "loadtest/README.md", "requirements/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
"""Everything that people read."""

_BLOCK = re.compile(r"<!-- (runs|file|exists): (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def page(path: str) -> str:
    """The text of a page, by its path in the repository."""
    return (REPOSITORY / path).read_text()


def blocks(text: str) -> dict[str, str]:
    """Marked blocks of a page by name."""
    return {name: block for _, name, block in _BLOCK.findall(text)}


def write_files(text: str, folder: Path) -> None:
    """Every block that is a file, as a reader would save it."""
    for kind, name, block in _BLOCK.findall(text):
        if kind == "file":
            (folder / name).write_text(block)


def run_block(name: str, folder: Path, text: str, port: int = 8080, *, exits: tuple[int, ...] = (0,)) -> str:
    """Runs one block with bash and answers its output; another exit status fails the test with what it said."""
    command = ["bash", "-euc", blocks(text)[name].replace(":8080", f":{port}")]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode in exits, f"{name}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def served(name: str, folder: Path, text: str) -> Iterator[ServiceProcess]:
    """The service as a block starts it, ready, on a free port."""
    serve = shlex.split(blocks(text)[name])
    assert serve[:2] == ["clickserve", "serve"]
    with service(*" ".join(serve[2:]).replace("--port 8080", "").split(), cwd=folder) as running:
        running.wait_for("ready")
        yield running


def environment() -> dict[str, str]:
    """The reader's shell: our commands on the path, no settings of ours."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CLICKSERVE_", "REDIS_"))}
    return kept | {"PATH": f"{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}"}

"""What may never be in the tree: addresses of package indexes, and paths of the machine it was written on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

FORBIDDEN = {
    "an address of a package index": re.compile(
        r"(index-url|find-links|extra-index|\bindex\s*=).*https?://|/simple/?\s*$"
    ),
    "a path of somebody's machine": re.compile(r"(?<![\w.])/(work|root|home/\w+)/(?!\.\.)[\w.-]+"),
    "a lock that carries download addresses": re.compile(r"^\s*(\"resolved\"|registry\s*=)\s*[:=]?.*https?://"),
}
BINARY = {".npz", ".npy", ".bin", ".png", ".parquet"}


def test_the_tree_names_no_index_and_no_machine(repository: Path) -> None:
    """Such a line works here and nowhere else."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\n")
    files = [path for name in listed if name and (path := repository / name).is_file() and path.suffix not in BINARY]

    found = [
        f"{path.relative_to(repository)}:{number}: {what}: {line.strip()[:80]}"
        for path in files
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        for what, pattern in FORBIDDEN.items()
        if pattern.search(line)
    ]

    assert found == []


def test_no_lock_file_of_another_tool_is_tracked(repository: Path) -> None:
    """`uv.lock` and `package-lock.json` write registry hosts into the repository; `requirements/*.lock` do not."""
    assert not [name for name in ("uv.lock", "package-lock.json", "poetry.lock") if (repository / name).exists()]

"""Where all processes of a service count: a folder of memory-mapped files, named in the environment.

`prometheus_client` looks for the variable once, when it is imported, so the folder is made before anything imports
`telemetry.py`. It lies in memory where the machine has a place for that: for files on disk the kernel's write-back
would now and then stop a worker in the middle of a request.

A parent that was killed leaves its folder behind; the next start finds that nobody holds it, and removes it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feature_store.run_folder import RunFolder

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "clickserve-metrics-"


@contextmanager
def metrics_folder(place: Path | None = None) -> Iterator[Path]:
    """An empty folder, named in `PROMETHEUS_MULTIPROC_DIR` and removed on leaving.

    One that the operator has named there is emptied of counts, and kept.

    Args:
        place: where to make it; memory, or the folder for temporary files, where None.
    """
    named = os.environ.get(VARIABLE)
    if named:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob("*.db"):
            left_over.unlink()
        yield folder
        return
    place = place or _memory()
    with RunFolder(place, PREFIX) as made:
        os.environ[VARIABLE] = str(made.path)
        try:
            yield made.path
        finally:
            del os.environ[VARIABLE]


def _memory() -> Path:
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())

"""Writing so that a reader sees all of a file or nothing, and a power cut does not tell otherwise.

Errors of the file system (read-only, full, forbidden) become RegistryError with the path and the system's own words.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import RegistryError


def write_durably(path: Path, content: bytes) -> None:
    """Writes a new file and waits until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_over(path: Path, content: bytes) -> None:
    """Replaces a file in one step: readers see the old content or the new."""
    with _beside(path, content) as temporary:
        temporary.replace(path)
    sync_directory(path.parent)


def write_once(path: Path, content: bytes) -> bool:
    """Creates a file with all of its content in one step; False where there is one already."""
    with _beside(path, content) as temporary:
        try:
            os.link(temporary, path)  # unlike a rename, refuses to replace
        except FileExistsError:
            return False
    sync_directory(path.parent)
    return True


@contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """A complete file under a hidden name next to `path`, gone at the end unless it was renamed.

    Raises:
        OSError: naming `path`, where it cannot be completed.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        try:
            write_durably(temporary, content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Waits until names made in a directory are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def naming_the_disk(action: str, path: Path) -> Iterator[None]:
    """Turns an error of the file system into one that says what was being done, where, and what to look at."""
    try:
        yield
    except OSError as error:
        raise RegistryError(
            f"cannot {action} {path}: {error.strerror or error}; check that the disk has room and may be written"
        ) from error

"""Files that belong together, written whole: all of them are new, or what was there before stays.

Each is completed under a hidden name beside its own and waited for until it is on the disk; only then are all renamed,
which takes no room. A power cut between two renames leaves a new file beside an old one, both whole.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path


def write_whole(contents: Mapping[Path, bytes | str]) -> None:
    """Write these files; text as UTF-8. A link keeps pointing; a pipe or device takes what is written at once.

    Raises:
        OSError: naming the path that cannot be written; no file was changed.
    """
    renames: list[tuple[Path, Path, Path]] = []
    with ExitStack() as stack:
        for path, content in contents.items():
            encoded = content.encode() if isinstance(content, str) else content
            with _naming(path):
                if path.exists() and not path.is_file():
                    path.write_bytes(encoded)
                    continue
                target = path.resolve()
                temporary = target.with_name(f".{target.name}-{os.getpid()}-{secrets.token_hex(4)}")
                stack.callback(temporary.unlink, missing_ok=True)
                with temporary.open("xb") as file:
                    file.write(encoded)
                    file.flush()
                    os.fsync(file.fileno())
            renames.append((path, temporary, target))
        for path, temporary, target in renames:
            with _naming(path):
                temporary.replace(target)
    for folder in {target.parent for _, _, target in renames}:
        _sync(folder)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A full disk does not say which file it was full for, and a temporary name tells nobody anything."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync(folder: Path) -> None:
    """Waits until the names in it are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

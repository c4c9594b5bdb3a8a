"""CPU time of the server's processes, read from /proc: what one answer costs, whatever the clock says.

Latency depends on what else the machine does; CPU seconds per answer hardly do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def cpu_seconds(process_ids: Iterable[int]) -> float | None:
    """User and system time spent so far by these processes together, in seconds; children are not followed.

    Returns None where there are none, or one of them no longer exists: a sum that silently lost a process would be
    wrong in the flattering direction.
    """
    ticks, n_processes = 0, 0
    for process_id in process_ids:
        try:
            status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = status.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
        ticks += int(fields[11]) + int(fields[12])  # utime and stime, fields 14 and 15 of proc(5)
        n_processes += 1
    return ticks / os.sysconf("SC_CLK_TCK") if n_processes else None

"""Becomes the server process, after asking the kernel to end it together with its owner.

Run as a script by `embedded.py`, with the bare interpreter and nothing imported: `prctl(PR_SET_PDEATHSIG)` holds across
`exec`, while asking for it between fork and exec of the owner would run Python code in a process that may have threads.
Arguments: the owner's process id, then the command to become.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(owner_pid: int, command: list[str]) -> None:
    """Never returns: the process is the server afterwards, or has ended because the owner was faster."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != owner_pid:  # the owner died before the kernel was asked
            sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])

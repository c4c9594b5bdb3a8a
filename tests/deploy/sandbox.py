"""A network and a file tree of its own on this machine, in which the commands of docker-compose.yml run as they stand.

What a container would find is made true here: the paths it mounts, the host names of the other services (all on the
sandbox's own loopback), the fixed ports. Nothing of it can be reached from outside, two sandboxes do not meet, and
what is written lies in memory: the machine's files are the lower half of an overlay. All processes end with it.
Not here: the image's own root and user (`tests/proofs/stack_image.py` runs that), limits of memory and CPU.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.conftest import REPOSITORY

NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork")

INTERFACE_UP = """
import fcntl, socket, struct
UP, RUNNING, SET_FLAGS = 0x1, 0x40, 0x8914
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP | RUNNING))
"""

MAKE = """
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/upper" "$WORK/scratch" "$WORK/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/upper,workdir=$WORK/scratch" "$WORK/root"
mount -t proc proc "$WORK/root/proc"
for folder in /dev /sys "$@"; do
    mkdir -p "$WORK/root$folder"
    mount --rbind "$folder" "$WORK/root$folder"
done
"$PYTHON" -c "$INTERFACE_UP"
{ echo "127.0.0.1 localhost $NAMES"; } > "$WORK/hosts"
mount --bind "$WORK/hosts" "$WORK/root/etc/hosts"
echo made
exec chroot "$WORK/root" sleep infinity
"""


def missing_for_a_sandbox() -> str:
    """What keeps this machine from making one, in words; empty where nothing does."""
    programs = [name for name in ("unshare", "nsenter", "mount", "chroot") if not shutil.which(name)]
    if programs:
        return f"not installed: {', '.join(programs)}"
    done = subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else f"no namespaces of our own: {done.stderr.decode().strip()}"


class Sandbox:
    """Entered, it exists; left, everything in it has ended."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """`folder` is seen inside under the same path, and keeps what is written there; `names` are host names."""
        self._folder, self._names = folder, names

    def __enter__(self) -> Self:
        work = self._folder / "sandbox"
        work.mkdir()
        # Some may lie on file systems of their own; the overlay shows the root's. Not /usr: it would be written to.
        needed = [self._folder, REPOSITORY, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
        kept = [path for path in needed if path != Path("/usr")]
        variables = {
            "WORK": str(work),
            "NAMES": " ".join(self._names),
            "PYTHON": sys.executable,
            "INTERFACE_UP": INTERFACE_UP,
        }
        self._anchor = subprocess.Popen(
            [*NAMESPACES, "--kill-child", "--propagation", "private", "sh", "-ec", MAKE, "sh", *map(str, kept)],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._anchor.stdout is not None
        if self._anchor.stdout.readline() != "made\n":
            assert self._anchor.stderr is not None
            raise RuntimeError(f"no sandbox: {self._anchor.stderr.read()}")
        first = Path(f"/proc/{self._anchor.pid}/task/{self._anchor.pid}/children").read_text().split()[0]
        self._enter = ["nsenter", "--target", first, "--mount", "--net", "--pid", "--root", "--wd"]
        return self

    def __exit__(self, *_: object) -> None:
        self._anchor.kill()
        self._anchor.wait()
        for stream in (self._anchor.stdout, self._anchor.stderr):
            assert stream is not None
            stream.close()

    def command(
        self, command: Sequence[str], mounts: Mapping[str, str], memory: Sequence[str] = (), workdir: str = "/"
    ) -> list[str]:
        """What runs a command inside, with `mounts` (path inside → file or folder) and empty folders in `memory`."""
        lines = []
        for place, source in mounts.items():
            made = (
                f"mkdir -p {_q(place)}"
                if Path(source).is_dir()
                else f"mkdir -p {_q(Path(place).parent)}; : >>{_q(place)}"
            )
            lines += [made, f"mount --bind {_q(source)} {_q(place)}"]
        # A folder in which the checkout or the interpreter lies cannot be hidden from what runs there.
        needed = [self._folder, REPOSITORY, Path(sys.prefix).resolve()]
        for place in memory:
            if not any(path.is_relative_to(place) for path in needed):
                lines += [f"mkdir -p {_q(place)}", f"mount -t tmpfs tmpfs {_q(place)}"]
        lines += [f"cd {_q(workdir)}", 'exec "$@"']
        return [*self._enter, "unshare", "--mount", "sh", "-ec", "\n".join(lines), "sh", *command]

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], *, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside to its end."""
        return subprocess.run(
            self.command(command, {}),
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def _q(path: str | Path) -> str:
    return shlex.quote(str(path))

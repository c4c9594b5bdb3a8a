"""An image built by `deploy/image/build.sh`, and what one may ask of it and of a service that `run.sh` runs from it.

Everything lies in one folder, so a machine's own images are neither used nor touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

BUILD = REPOSITORY / "deploy/image/build.sh"
RUN = REPOSITORY / "deploy/image/run.sh"


def missing_for_a_build() -> str:
    """What keeps this machine from building an image, in words; empty where nothing does."""
    programs = [name for name in ("buildah", "debootstrap", "setpriv", "nsenter") if not shutil.which(name)]
    if programs:
        return f"not installed: {', '.join(programs)}"
    return "" if os.geteuid() == 0 else "not root"


class BuiltImage:
    """The image `localhost/clickserve:proof` in a store of its own."""

    name = "localhost/clickserve:proof"

    def __init__(self, folder: Path) -> None:
        """Builds it, from the base up; the log lies in `folder/build.log`.

        Raises:
            RuntimeError: the build failed; carries the end of its log.
        """
        self._store = folder / "store"
        configuration = folder / "storage.conf"
        driver = os.environ.get("STORAGE_DRIVER", "overlay")
        configuration.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{self._store}"\nrunroot = "{folder / "run"}"\n'
        )
        self.environment = os.environ | {"CONTAINERS_STORAGE_CONF": str(configuration)}
        log = folder / "build.log"
        with log.open("w") as out:
            done = subprocess.run(
                [BUILD, "--tag", self.name], stdout=out, stderr=out, env=self.environment, check=False
            )
        if done.returncode != 0:
            raise RuntimeError(f"the build failed: {log.read_text()[-3000:]}")

    def run_command(self, *options: str) -> list[str]:
        """`run.sh` for this image; the program's arguments follow."""
        return [str(RUN), "--image", self.name, *options, "--"]

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of the image to its end."""
        command = self.run_command("--entrypoint", program) + list(arguments)
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    def healthcheck(self) -> list[str]:
        """Program and arguments of its HEALTHCHECK."""
        described = json.loads(self._buildah("inspect", "--type", "image", self.name))
        kind, *command = described["Docker"]["config"]["Healthcheck"]["Test"]
        assert kind == "CMD", kind
        return command

    def base(self) -> str:
        """Name of the image that it was built on."""
        images: list[dict[str, Any]] = json.loads(self._buildah("images", "--json"))
        (name,) = [name for image in images for name in image.get("names") or () if "clickserve-base" in name]
        return name

    @contextmanager
    def unpacked(self, image: str | None = None) -> Iterator[Path]:
        """The root file system of this image, or of another, on the host."""
        container = self._buildah("from", "--pull-never", image or self.name)
        try:
            yield Path(self._buildah("mount", container))
        finally:
            self._buildah("rm", container)

    def close(self) -> None:
        """Releases what is mounted, so that the folder can be deleted."""
        self._buildah("rm", "--all")
        subprocess.run(["umount", "--lazy", self._store / "overlay"], capture_output=True, check=False)

    def _buildah(self, *arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"buildah {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()


def service_pid(run_pid: int) -> int:
    """The service's process on the host, below the `run.sh` that started it."""
    (unshare,) = _children(run_pid)
    (service,) = _children(unshare)
    return service


def inside(pid: int, command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a command beside a service, in its file tree and process tree and as its user, like an engine's `exec`."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    user, group = status["Uid"].split()[0], status["Gid"].split()[0]
    entered = ["nsenter", "--target", str(pid), "--mount", "--pid", f"--root=/proc/{pid}/root", "--wd"]
    as_user = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    return subprocess.run(
        [*entered, *as_user, *command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def environment_of(pid: int) -> dict[str, str]:
    """What a process was given."""
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

"""A newcomer reaches a ranked answer by one page alone: clone, install, and the commands of the page, on one clock.

Each quick start is followed in an empty folder, with the blocks as they stand in it (`tests/snippets.py`); only ports
are others. Reading, and writing `features.toml` by hand, take a person longer than the commands: the bound leaves room.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.proofs.claim import REPOSITORY, Claim, Outcome, timed
from tests.snippets import blocks, page, write_files

BOUND_S = 600.0
READY_S = 60.0
WAYS = {
    "docs/quickstart-log.md": (("make-log", "train"), "serve", ("rank", "bench"), ("r7", ["s1", "s2", "s3"])),
    "docs/quickstart-features.md": (("pipeline", "store"), "serve", ("rank", "refresh"), ("m7", ["a1", "a2", "a3"])),
    "docs/import-model.md": (("train", "import"), "import-service", ("import-ask",), ("m7", ["b1", "b2", "b3"])),
}
"""By page: blocks before the service runs, the block that starts it, blocks that ask it, and whom to rank for."""


def newcomer(scratch: Path) -> Outcome:
    """All pages, on one installation whose time counts for each."""
    clone = scratch / "clickserve"
    installing, _ = timed(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], scratch)
    installing += timed(["make", "setup"], clone)[0]
    found = {}
    for path, way in WAYS.items():
        folder = scratch / Path(path).stem
        folder.mkdir()
        found[path] = _followed(page(path), way, folder, clone / ".venv/bin")
    totals = {path: installing + sum(steps["seconds"].values()) for path, steps in found.items()}
    return Outcome.judged(
        f"clone and install {installing:.0f} s; with it "
        + ", ".join(f"{Path(path).stem} {total / 60:.1f} min" for path, total in totals.items()),
        {
            f"each below {BOUND_S / 60:g} min": all(total < BOUND_S for total in totals.values()),
            "each ranks all three with nothing missing": all(
                len(steps["answer"]["results"]) == 3
                and not {"user_missing", "ad_missing"} & {*steps["answer"]["degraded"]}
                for steps in found.values()
            ),
        },
        {"install_seconds": round(installing, 1), "pages": found},
    )


def _followed(
    text: str,
    way: tuple[tuple[str, ...], str, tuple[str, ...], tuple[str, list[str]]],
    folder: Path,
    commands: Path,
) -> dict[str, dict[str, object]]:
    """Seconds of each block, its commands, and the last ranked answer."""
    before, serve, asking, (user_id, candidates) = way
    shown, seconds = blocks(text), {}
    write_files(text, folder)
    for name in before:
        seconds[name] = _run(shown[name], folder, commands)
    started = time.monotonic()
    with _served(shown[serve], folder, commands) as port:
        seconds[serve] = round(time.monotonic() - started, 1)
        for name in asking:
            seconds[name] = _run(shown[name].replace(":8080", f":{port}"), folder, commands)
        body = json.dumps({"user_id": user_id, "candidates": candidates}).encode()
        with urlopen(f"http://127.0.0.1:{port}/v1/rank", body, timeout=READY_S) as response:
            answer = json.load(response)
    lines = {name: shown[name].splitlines() for name in (*before, serve, *asking)}
    return {"seconds": seconds, "commands": lines, "answer": answer}


def _run(block: str, folder: Path, commands: Path) -> float:
    """Seconds of a block. A load test may end with 1, where the machine was too busy to judge."""
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-euc", block], cwd=folder, env=_environment(commands), capture_output=True, text=True, check=False
    )
    if done.returncode not in ((0, 1) if "clickserve bench" in block else (0,)):
        raise RuntimeError(f"{block} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return round(time.monotonic() - started, 1)


@contextmanager
def _served(block: str, folder: Path, commands: Path) -> Iterator[int]:
    """The service as the page starts it, ready; its port."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, admin_port = one.getsockname()[1], other.getsockname()[1]
    words = [*shlex.split(block.replace("8080", str(port))), "--admin-port", str(admin_port)]
    process = subprocess.Popen(
        words, cwd=folder, env=_environment(commands), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + READY_S
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{block} ended or was not ready within {READY_S:g} s")
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(READY_S)


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _environment(commands: Path) -> dict[str, str]:
    """A shell that knows the installed commands and nothing of this checkout."""
    ours = ("CLICKSERVE_", "REDIS_", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PATH": f"{commands}:{os.environ['PATH']}"}


CLAIMS = (
    Claim(
        "newcomer",
        "make prove PART=stack, or: python -m tests.proofs stack --only newcomer",
        f"from git clone to a ranked answer by each quick start's own commands, in an empty folder, below "
        f"{BOUND_S / 60:g} minutes",
        newcomer,
    ),
)

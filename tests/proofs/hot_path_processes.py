"""What the kernel says of a running service: its workers, their memory, and the files they map."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from loadtest.suite.servers import Server

ADMIN_TIMEOUT_S = 10.0
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)$")
_PAGES = re.compile(r"^(Rss|Pss):\s+(\d+) kB$")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: resident, and resident with pages that several processes map divided among them."""

    rss_bytes: int
    pss_bytes: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.rss_bytes + other.rss_bytes, self.pss_bytes + other.pss_bytes)


def workers(server: Server) -> list[int]:
    """Process ids of the workers."""
    return [pid for pid in server.process_ids() if b"service.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def memory(pid: int, below: Path | None = None) -> Memory:
    """Memory of a process; with `below`, that of the files in this folder which it maps, deleted ones included."""
    return sum(mapped_files(pid, below).values(), Memory(0, 0))


def mapped_files(pid: int, below: Path | None = None) -> dict[str, Memory]:
    """Memory by what it maps; the empty name is memory without a file."""
    start = "" if below is None else f"{below.resolve()}/"
    found: dict[str, Memory] = {}
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if heading := _MAPPING.match(line):
            name = heading[1]
        elif (pages := _PAGES.match(line)) and name.startswith(start):
            size_bytes = int(pages[2]) * 1024
            one = Memory(size_bytes, 0) if pages[1] == "Rss" else Memory(0, size_bytes)
            found[name] = found.get(name, Memory(0, 0)) + one
    return found


def counter(server: Server, log: Path, name: str, **labels: str) -> float:
    """Sum of a metric's samples that have these labels, over all workers.

    Args:
        log: what the service said; its line "listening" names the address of the metrics.
    Raises:
        RuntimeError: there is no such line.
    """
    listening = [line for line in map(_as_json, log.read_text().splitlines()) if line.get("msg") == "listening"]
    if not listening:
        raise RuntimeError(f"{server.name} did not say where its metrics are; see {log}")
    with urllib.request.urlopen(f"{listening[-1]['admin_url']}/metrics", timeout=ADMIN_TIMEOUT_S) as answer:
        lines = answer.read().decode().splitlines()
    total = 0.0
    for line in lines:
        sample, _, value = line.rpartition(" ")
        if sample.partition("{")[0] == name and all(f'{key}="{text}"' in sample for key, text in labels.items()):
            total += float(value)
    return total


def _as_json(line: str) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

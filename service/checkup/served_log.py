"""The folder of the served log: whether the service could write there, and whether it will fit."""

from __future__ import annotations

import shutil

from service.checkup.finding import Finding, ok, warning
from service.served_log.files import finished_files
from service.settings import ServedLogSettings


def check_served_log(settings: ServedLogSettings) -> list[Finding]:
    """What would keep rows out of the log; nothing where it is off. Makes the folder, as the service would."""
    folder = settings.folder
    if folder is None:
        return []
    probe = folder / ".doctor.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
        used_mb = sum(path.stat().st_size for path in finished_files(folder)) / 2**20
        free_mb = shutil.disk_usage(folder).free / 2**20
    except OSError as error:
        advice = "make served_log.folder a folder that the service may write to; until then every row is dropped"
        return [warning("served log", f"{folder}: {error.strerror or error}", advice)]
    seen = f"{used_mb:,.0f} of {settings.max_total_mb:,.0f} MB used in {folder}, {free_mb:,.0f} MB free on the disk"
    if used_mb + free_mb < settings.max_total_mb:
        return [warning("served log", seen, "lower served_log.max_total_mb: the disk is full before files are deleted")]
    return [ok("served log", seen)]

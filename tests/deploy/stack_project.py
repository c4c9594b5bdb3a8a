"""`python -m tests.deploy.stack_project FOLDER URL`: a model, its rows in a store, and a workload of them.

A program of its own, because the store can be reached inside the sandbox only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.artifacts import DEVICES, make_served_project


def main(folder: Path, url: str) -> None:
    """Leaves `registry`, `workload.json` and `request.json` in the folder."""
    project = make_served_project(folder)
    project.materialize(url)
    workload = {
        "path": "/v1/rank",
        "n_candidates": 20,
        "users": {"ids": project.users.entity_ids},
        "ads": {"ids": project.ads.entity_ids},
        "context": {"device": list(DEVICES)},
        "seed": 1,
    }
    (folder / "workload.json").write_text(json.dumps(workload))
    (folder / "request.json").write_text(json.dumps(project.rank_body()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

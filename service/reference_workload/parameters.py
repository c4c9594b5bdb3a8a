"""What a reference workload consists of. W100, the default, is the workload of every published latency figure.

    20 numbers of each user    in Redis, ids u0, u1, …
    16 numbers of each ad      in Redis and in the item table, ids a0, a1, …
     4 numbers of the request  context c0 … c3, each in [-CONTEXT_BOUND, CONTEXT_BOUND]

The model's columns are these 40, in this order. Pure.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

USER_FEATURES = 20
AD_FEATURES = 16
CONTEXT_FEATURES = 4
USER_PREFIX, AD_PREFIX = "u", "a"
CONTEXT_BOUND = 2.0
CONTEXT_KEYS = tuple(f"c{i}" for i in range(CONTEXT_FEATURES))
USER_VIEW, AD_VIEW = "user_profile", "ad_profile"

RECIPE = 1
"""Raised when the same parameters come to mean other rows or another model, so that nothing built before is reused."""

Learner = Literal["gbdt", "logistic"]


class WorkloadParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides the rows and the model. Equal parameters give equal ones."""

    users: int = 100_000
    ads: int = 10_000
    learner: Learner = "gbdt"
    trees: int = 200
    leaves: int = 31
    """Of each tree. Trees and leaves say nothing about a logistic model, and nothing about its identity."""
    seed: int = 7
    recipe: int = RECIPE

    @property
    def digest(self) -> str:
        """Identity of the workload, 8 hex digits."""
        said = self if self.learner == "gbdt" else msgspec.structs.replace(self, trees=0, leaves=0)
        return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()[:8]

    @property
    def project(self) -> str:
        """Name in every Redis key: workloads of other parameters can share a server."""
        return f"bench-{self.digest}"


def features_toml(parameters: WorkloadParameters) -> str:
    """The definition of features, as a user would write it. Tables and log lie in `log/` beside it."""
    lines = [
        "# Written by clickserve bench serve-workload.",
        f'[project]\nname = "{parameters.project}"\n',
        '[log]\nuser_id = "user_id"\nad_id = "ad_id"\nclicked = "clicked"',
        'time = { column = "time_ms", unit = "ms" }\n',
    ]
    for view, entity, width in ((USER_VIEW, "user", USER_FEATURES), (AD_VIEW, "ad", AD_FEATURES)):
        # Years to live: a workload built today is measured again next month, and no row may be missing then.
        lines.append(
            f'[views.{view}]\nentity = "{entity}"\nttl = "3650d"\nfrom = "log/{entity}s.parquet"\nkey = "{entity}_id"\n'
            f"[views.{view}.features]"
        )
        lines += [f"f{i} = {{}}" for i in range(width)]
        lines.append("")
    lines += [f"[context.{key}]" for key in CONTEXT_KEYS]
    return "\n".join(lines) + "\n"

"""The reference workload: its identity, its definition of features, and folders it must not touch."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from feature_store.definition import parse_project
from service.reference_workload.build import Place, WorkloadError, build
from service.reference_workload.facts import Calibration
from service.reference_workload.parameters import WorkloadParameters, features_toml

SMALL = WorkloadParameters(users=200, ads=300, trees=20)


def ignore_progress(text: str, fraction: float) -> None:
    """Nobody looks."""


def test_the_definition_has_the_forty_columns_of_the_reference() -> None:
    """20 of the user, 16 of the ad, 4 of the request: what every published figure speaks of."""
    schema = parse_project(features_toml(SMALL), origin="features.toml").schema

    assert [(view.entity, view.n_float) for view in schema.views] == [("user", 20), ("ad", 16)]
    assert [feature.name for feature in schema.context] == ["c0", "c1", "c2", "c3"]


def test_workloads_of_other_parameters_have_other_keys() -> None:
    """Two workloads on one Redis must not overwrite each other's u1."""
    projects = {SMALL.project, msgspec.structs.replace(SMALL, users=201).project, WorkloadParameters().project}

    assert len(projects) == 3


def test_trees_do_not_count_for_a_model_without_trees() -> None:
    """The same rows and the same model are the same workload."""
    logistic = msgspec.structs.replace(SMALL, learner="logistic")

    assert logistic.digest == msgspec.structs.replace(logistic, trees=5).digest
    assert SMALL.digest != msgspec.structs.replace(SMALL, trees=5).digest


def test_a_folder_with_other_content_is_left_alone(tmp_path: Path) -> None:
    """A mistyped --dir must not cost anybody their files."""
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(WorkloadError, match="not empty and holds no workload"):
        build(Place(tmp_path, None), SMALL, 100, ignore_progress)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_keeps_the_workload_it_was_built_with(tmp_path: Path) -> None:
    """Figures of one folder must not come from two models."""
    built = {"parameters": SMALL, "version": "v000001-00000000", "calibration": Calibration(0.0, 0.0, [], [1.0])}
    (tmp_path / "built.json").write_bytes(msgspec.json.encode(built))

    with pytest.raises(WorkloadError, match=r"users 200.*not users 999"):
        build(Place(tmp_path, None), msgspec.structs.replace(SMALL, users=999), 100, ignore_progress)

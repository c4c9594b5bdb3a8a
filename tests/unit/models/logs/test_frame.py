"""The training frame: what a model sees, made by the encoders that serving uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from feature_store.definition import parse_project
from feature_store.errors import LogError, SchemaError
from feature_store.schema import PairFeature
from models.encoder import Encoder
from models.errors import EncodingError
from models.logs.frame import TrainingFrame, build_frame
from models.logs.reader import read_log
from models.logs.simulation_preset import SIM_V1
from models.logs.simulator import simulate
from tests.logs import HOUR_MS, SHOP, parquet, random_columns, shop_log

VIEWS = """
[views.profile]
entity = "user"
ttl = "90d"
from = "users.parquet"
key = "id"
[views.profile.features]
age = {}
segment = { dtype = "id" }
[views.counts]
entity = "ad"
ttl = "90d"
step = "1h"
[views.counts.features]
seen = { impressions = "all" }
[context.place]
dtype = "id"
default = "home"
[context.bid]
default = 2.5
[pairs.place_segment]
op = "cross_hash"
left = "context.place"
right = "profile.segment"
"""


def shop_frame(folder: Path, views: str = VIEWS) -> TrainingFrame:
    parquet(folder / "users.parquet", {"id": ["u0", "u1"], "age": [30, 40], "segment": ["s", "t"]})
    columns = random_columns(0, 200)
    bids: list[float | None] = [None if i % 5 == 0 else i / 7 for i in range(200)]
    places = [None if i % 4 == 0 else place for i, place in enumerate(columns["place"])]  # type: ignore[call-overload]
    return build_frame(shop_log(folder, views, columns | {"bid": bids, "place": places}))


def test_the_context_of_an_impression_is_encoded_as_a_request_would_be(tmp_path: Path) -> None:
    """The log's values and a request's values meet the same functions, so a model sees one and the same column."""
    frame = shop_frame(tmp_path)
    encoder = Encoder(frame.inputs)
    columns = frame.log.columns(["place", "bid"])

    for at in range(0, len(frame), 17):
        request = {name: (*column.values, None)[column.codes[at]] for name, column in columns.items()}
        served = encoder.encode_context(request).block
        assert served.floats.tobytes() == frame.context.floats[at].tobytes()
        assert served.ids.tobytes() == frame.context.ids[at].tobytes()


def test_a_frame_becomes_the_models_matrices(tmp_path: Path) -> None:
    """User, ad, context, pairs: the order of the one encoder."""
    frame = shop_frame(tmp_path)
    encoder = Encoder(frame.inputs)

    encoded = frame.encode(encoder)
    part = frame.encode(encoder, slice(50, 60))

    assert encoder.float_names == ("profile.age", "counts.seen", "context.bid")
    assert encoded.features.shape == (200, 3)
    assert encoded.ids.shape == (200, 3)
    assert part.features.tobytes() == encoded.features[50:60].tobytes()


def test_a_frame_knows_who_what_when_and_where_in_the_file(tmp_path: Path) -> None:
    """Splits by time, intervals by user and answers in the file's order need them."""
    frame = shop_frame(tmp_path)

    assert (np.diff(frame.time_ms) >= 0).all()
    assert sorted(frame.line) == list(range(1, 201))
    assert frame.clicked.sum() == frame.log.clicks
    assert sorted(frame.users.values) == [f"u{i}" for i in range(5)]
    assert (frame.position == -1).all()


@pytest.mark.parametrize(("hit", "every"), [(False, "no"), (True, "every")])
def test_a_log_with_one_kind_of_label_is_refused(tmp_path: Path, hit: bool, every: str) -> None:
    """There is nothing to learn, and most often a wrong column behind it."""
    columns = random_columns(0, 20)
    at = np.asarray(columns["at"])
    log = shop_log(tmp_path, "", columns | {"hit": [hit] * 20, "hit_at": at + 5})

    with pytest.raises(LogError, match=rf"{every} impression of the 20 in the log was clicked"):
        build_frame(log)


def test_pending_impressions_are_neither_clicked_nor_not(tmp_path: Path) -> None:
    """Left out together: those whose click has come already are the start of a rate that the others would finish."""
    columns = random_columns(0, 300)
    label = '[context.place]\ndtype = "id"\n[label]\nwindow = "6h"\n'
    log = shop_log(tmp_path, label, columns)
    at, hit_at = np.asarray(columns["at"]), np.asarray(columns["hit_at"].to_pylist(), float)  # type: ignore[attr-defined]
    known = at + 6 * HOUR_MS <= max(at.max(), np.nanmax(hit_at))

    frame = build_frame(log)

    assert 0 < log.pending == np.count_nonzero(~known)
    assert len(frame) == len(frame.propensity) == len(frame.context.ids) == np.count_nonzero(known)
    assert frame.clicked.tolist() == np.asarray(columns["hit"])[known].tolist()
    assert frame.clicked.sum() < log.clicks
    assert frame.log.pending_words().startswith(f"{log.pending} newest of 300 impressions are left out, clicked or not")


def test_a_log_of_nothing_but_pending_impressions_is_refused(tmp_path: Path) -> None:
    """Its labels will be known later; until then nothing can be learnt, and the message says what can be done."""
    log = shop_log(tmp_path, '[label]\nwindow = "30d"\n', random_columns(0, 20))

    with pytest.raises(LogError, match=r"all 20 impressions are pending: .* clicks count for 30d"):
        build_frame(log)


def test_a_pair_that_cannot_be_made_is_refused_before_the_joins(tmp_path: Path) -> None:
    """Minutes of work must not end in a message that could have come first."""
    told: list[str] = []
    log = shop_log(tmp_path)
    pair = PairFeature(name="p", op="product", left="profile.age", right="nowhere.x")
    project = replace(log.project, schema=replace(log.project.schema, pairs=(pair,)))

    with pytest.raises(EncodingError, match=r"nowhere\.x|profile\.age"):
        build_frame(log, project, on_progress=lambda stage, share: told.append(stage))

    assert told == []


def test_a_simulated_log_needs_no_definition(tmp_path: Path) -> None:
    """Its own definition joins both tables, counts windows and groups, and leaves hardly a row without its ad."""
    simulate(SIM_V1, n_impressions=20_000, seed=5, out_dir=tmp_path / "sim")

    frame = build_frame(read_log(f"simulated:{tmp_path / 'sim'}", workdir=tmp_path / "work"))

    encoder = Encoder(frame.inputs)
    features = frame.encode(encoder).features
    missing = dict(zip(encoder.float_names, np.isnan(features).mean(axis=0), strict=True))
    assert missing["ad_profile.price"] == 0
    assert missing["category_clicks.ctr_all"] < 0.02
    assert frame.position.min() == 1


SCORES = """
[views.scores]
entity = "user"
ttl = "90d"
from = "scores.parquet"
key = "who"
event_time = { column = "at", unit = "ms" }
[views.scores.features]
score = {}
"""


@pytest.mark.parametrize(
    ("known_before_ms", "shift_ms", "warned"),
    [(0, 1, True), (1, 1, False), (0, 0, False)],
    ids=["own time", "earlier", "whole minutes"],
)
def test_rows_that_carry_the_time_of_their_impression_are_warned_of(
    tmp_path: Path, known_before_ms: int, shift_ms: int, warned: bool
) -> None:
    """Whoever writes a row with the outcome stamps it so; where times are rounded it means nothing."""
    columns = random_columns(0, 200)
    at = np.asarray(columns["at"]) + shift_ms
    hit_at = pa.array(at + 1, mask=~np.asarray(columns["hit"]))
    parquet(tmp_path / "scores.parquet", {"who": columns["who"], "at": at - known_before_ms, "score": columns["hit"]})

    frame = build_frame(shop_log(tmp_path, SCORES, columns | {"at": at, "hit_at": hit_at}))

    assert frame.simultaneous["scores"] == (0.0 if known_before_ms else 1.0)
    assert [("'scores'" in text, "100 %" in text) for text in frame.warnings()] == [(True, True)] * warned


def test_views_that_only_know_earlier_clicks_are_not_suspected(tmp_path: Path) -> None:
    """Rows without a time hold since ever, and windows end by themselves before the impression."""
    assert shop_frame(tmp_path).simultaneous == {}


def test_a_frame_keeps_propensities_and_no_sql_view_sees_them(tmp_path: Path) -> None:
    """What shows which policy chose is for judging policies alone."""
    columns = random_columns(0, 100)
    chance = np.random.default_rng(0).uniform(0.1, 1.0, size=100)
    known = parse_project(SHOP + 'propensity = "chance"\n', origin="features.toml", folder=tmp_path)
    peeking = parse_project(
        SHOP + 'propensity = "chance"\n[views.peek]\nentity = "ad"\nttl = "9d"\n'
        'sql = "SELECT ad_id AS entity_id, time_ms AS event_time_ms, min(chance) AS c FROM log GROUP BY ALL"\n'
        "[views.peek.features]\nc = {}\n",
        origin="features.toml",
        folder=tmp_path,
    )
    path = parquet(tmp_path / "log.parquet", columns | {"chance": chance, "kind": ["x", "y"] * 50})

    log = read_log(f"parquet:{path}", known, workdir=tmp_path / "work")
    frame = build_frame(log)

    assert frame.propensity.tolist() == chance[frame.line - 1].tolist()
    assert frame.part(0.5, 1).propensity.tolist() == frame.propensity[50:].tolist()
    with pytest.raises(SchemaError, match="chance"):
        build_frame(log, peeking)


def test_without_propensities_a_frame_says_so(tmp_path: Path) -> None:
    """NaN, as nothing may be weighed by it."""
    assert np.isnan(build_frame(shop_log(tmp_path, '[context.place]\ndtype = "id"\n')).propensity).all()

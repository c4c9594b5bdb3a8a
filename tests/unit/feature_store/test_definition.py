"""features.toml: every mistake is told with its path, and what is right means what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from feature_store.definition import load_project, parse_project
from feature_store.errors import SchemaError
from feature_store.project import TimeColumn
from feature_store.schema import LogSource, SqlSource, TableSource, WindowMeasure, WindowSource
from feature_store.toml_table import TomlTable, shown_duration
from models.logs.presets import PRESETS, preset
from tests.conftest import REPOSITORY

DOCUMENTATION = (REPOSITORY / "docs" / "features-toml.md").read_text(encoding="utf-8")
HEAD = """
[project]
name = "shop"
[log]
user_id = "user_id"
ad_id = "ad_id"
time = { column = "ts", unit = "s" }
clicked = { sql = "rating = 5" }
position = "slot"
propensity = "chance"
"""
AD_PROFILE = """
[views.ad_profile]
entity = "ad"
ttl = "30d"
from = "ads.parquet"
[views.ad_profile.features]
campaign = { dtype = "id" }
price = { default = 0.5 }
embedding = { dtype = "float32[16]", column = "emb" }
"""
WINDOWS = """
[views.clicks]
entity = "ad"
ttl = "2d"
step = "1h"
lag = "10m"
by = "ad_profile.campaign"
[views.clicks.features]
seen = { impressions = "7d" }
rate = { ctr = "all", prior_impressions = 20, default = 0.01 }
"""
CAMPAIGN = WINDOWS.replace("views.clicks", "views.campaign")
ACROSS = """
[views.taste]
entity = "user"
ttl = "2d"
step = "1h"
across = "ad_profile.price"
width = 4
[views.taste.features]
rate = { ctr = "all", prior_impressions = 20 }
"""
TOWARDS = WINDOWS.replace("prior_impressions = 20", 'prior_impressions = 20, towards = "campaign.rate"')


def complaint(text: str) -> str:
    with pytest.raises(SchemaError) as caught:
        parse_project(text, origin="features.toml")
    return str(caught.value)


def test_a_table_view_reads_its_columns() -> None:
    """Columns default to the feature's name, and the key to the entity's id."""
    project = parse_project(HEAD + AD_PROFILE, origin="features.toml")

    view = project.schema.view("ad_profile")

    assert view is not None
    assert view.source == TableSource(columns=("campaign", "price", "emb"))
    assert [(f.name, f.dtype, f.width, f.default) for f in view.features] == [
        ("campaign", "id", 1, None),
        ("price", "float32", 1, 0.5),
        ("embedding", "float32", 16, None),
    ]
    assert project.tables["ad_profile"].key == "ad_id"
    assert project.log.time == TimeColumn("ts", "s", "log.time.column")


def test_a_step_makes_a_window_view() -> None:
    """Windows, lag, group and smoothing all reach the source that the fingerprint covers."""
    project = parse_project(HEAD + AD_PROFILE + WINDOWS, origin="features.toml")

    view = project.schema.view("clicks")

    assert view is not None
    assert view.source == WindowSource(
        step_ms=3_600_000,
        lag_ms=600_000,
        by="ad_profile.campaign",
        measures=(
            WindowMeasure(measure="impressions", window_ms=604_800_000),
            WindowMeasure(measure="ctr", prior_impressions=20.0),
        ),
    )
    assert view.features[1].default == 0.01


def test_a_decayed_count_has_a_half_life_instead_of_a_window() -> None:
    """It never forgets at once, so it has no length."""
    text = WINDOWS.replace('"7d" }', '"decayed", half_life = "36h" }')

    view = parse_project(HEAD + AD_PROFILE + text, origin="features.toml").schema.view("clicks")

    assert view is not None
    assert isinstance(view.source, WindowSource)
    assert view.source.measures[0] == WindowMeasure(measure="impressions", half_life_ms=36 * 3_600_000)


def test_layout_and_comments_of_sql_do_not_change_the_fingerprint() -> None:
    """Reformatting a query must not throw away every stored row."""
    view = '[views.v]\nentity = "user"\nttl = "1d"\nsql = """{}"""\n[views.v.features]\nn = {{}}\n'
    loose = view.format("select user_id as entity_id, -- who\n  time_ms AS event_time_ms,\n  1 as n from log")
    tight = view.format("SELECT user_id AS entity_id, time_ms AS event_time_ms, 1 AS n FROM log")

    first, second = (parse_project(HEAD + text, origin="x").schema.views[0] for text in (loose, tight))

    assert isinstance(first.source, SqlSource)
    assert first.fingerprint == second.fingerprint


def test_from_log_reads_the_log_itself() -> None:
    """Attributes that the log carries need no file."""
    text = '[views.v]\nentity = "user"\nttl = "1d"\nfrom = "log"\n[views.v.features]\ncity = { dtype = "id" }\n'

    project = parse_project(HEAD + text, origin="features.toml")

    assert project.schema.views[0].source == LogSource(columns=("city",))
    assert project.tables == {}


def test_an_id_default_is_its_canonical_text() -> None:
    """3 and 3.0 are one category, whatever the owner wrote."""
    text = '[context.slot_kind]\ndtype = "id"\ndefault = 3.0\n[context.vip]\ndtype = "id"\ndefault = true\n'

    project = parse_project(HEAD + text, origin="features.toml")

    assert [feature.default for feature in project.schema.context] == ["3", "true"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            AD_PROFILE.replace("features]", "featurs]"),
            'views.ad_profile.featurs: unknown key, did you mean "features"?',
        ),
        ('[veiws.x]\nentity = "ad"', 'veiws: unknown key, did you mean "views"?'),
        (AD_PROFILE.replace('"30d"', '"30 days"'), 'views.ad_profile.ttl: expected a duration such as "30s"'),
        (AD_PROFILE.replace('"30d"', '"0d"'), "views.ad_profile.ttl: is 0, so no row would ever be served"),
        (AD_PROFILE.replace('ttl = "30d"\n', ""), "views.ad_profile.ttl: is missing"),
        (AD_PROFILE.replace('"ad"', '"item"'), 'views.ad_profile.entity: expected one of ad, user, got "item"'),
        (AD_PROFILE.replace("float32[16]", "float64"), 'embedding.dtype: expected "float32", "float32[64]"'),
        (AD_PROFILE.replace("float32[16]", "float32[0]"), "embedding.dtype: an embedding has 1 to 4096 numbers, got 0"),
        (AD_PROFILE.replace("default = 0.5", 'default = "x"'), "features.price.default: expected a finite number"),
        (AD_PROFILE.replace("default = 0.5", "default = inf"), "features.price.default: expected a finite number"),
        (AD_PROFILE.replace("ad_profile", "context"), 'the name "context" is reserved'),
        (AD_PROFILE.replace("price =", "event_time_ms ="), 'the name "event_time_ms" is reserved'),
        (AD_PROFILE.replace("price =", '"my price" ='), "a name has up to 64 letters, digits and underscores"),
        (AD_PROFILE + AD_PROFILE, "not valid TOML"),
        (AD_PROFILE + "price = {}\n", "(at line 20"),
        (AD_PROFILE + '[views.ad_profile.x]\ny = "z"', "views.ad_profile.x: unknown key"),
        (AD_PROFILE.replace("from =", "by ="), "exactly one of step (windows), sql and from; got none of them"),
        (AD_PROFILE.replace("from =", 'step = "1h"\nfrom ='), "got step and from"),
        (AD_PROFILE.replace("from =", 'lag = "1h"\nfrom ='), 'lag: means nothing in a view made by "from"'),
        (WINDOWS, 'views.clicks.by: there is no "ad_profile.campaign" to read; known are none'),
        (AD_PROFILE + WINDOWS.replace('"1h"', '"1ms"'), 'views.clicks.step: is shorter than 1s: "1ms"'),
        (AD_PROFILE + WINDOWS.replace("7d", "90m"), "seen.impressions: 90m is not a multiple of the view's step of 1h"),
        (AD_PROFILE + WINDOWS.replace("2d", "1h"), "views.clicks.ttl: is shorter than step + lag"),
        (AD_PROFILE + WINDOWS.replace("ctr =", "cvr ="), 'rate.cvr: unknown key, did you mean "ctr"?'),
        (AD_PROFILE + WINDOWS.replace("seen = {", 'seen = { clicks = "7d",'), "seen: counts exactly one thing"),
        (
            AD_PROFILE + WINDOWS.replace('"7d" }', '"7d", prior_impressions = 3 }'),
            "prior_impressions: smooths a ctr; impressions are counted as they are",
        ),
        (ACROSS, 'views.taste.across: there is no "ad_profile.price" to read; known are none'),
        (
            AD_PROFILE + ACROSS.replace("ad_profile.price", "ad_profile.campaign"),
            'taste.across: there is no "ad_profile.campaign" to read; known are ad_profile.price',
        ),
        (AD_PROFILE + ACROSS.replace('"user"', '"ad"'), "taste.across: splits what users did by an attribute of ads"),
        (AD_PROFILE + ACROSS.replace("width = 4", ""), "taste.width: is missing; give for example width = 12"),
        (AD_PROFILE + ACROSS.replace("width = 4", "width = 1"), "taste.width: must be 2 to 256"),
        (AD_PROFILE + WINDOWS.replace("lag =", "width = 3\nlag ="), "clicks.width: says how many numbers across has"),
        (
            AD_PROFILE + ACROSS.replace("prior_impressions = 20", 'prior_impressions = 20, towards = "a.b"'),
            "rate.towards: is for one rate; a view across has a vector of them",
        ),
        (AD_PROFILE.replace("from =", "width = 3\nfrom ="), 'width: means nothing in a view made by "from"'),
        (
            AD_PROFILE + "title = { ngrams = [1, 2] }",
            "title.dtype: n-grams are hashed into a vector, for example dtype",
        ),
        (
            AD_PROFILE + 'title = { dtype = "float32[8]", ngrams = [0] }',
            "title.ngrams: expected different numbers of words from 1 to 5, got [0]",
        ),
        (
            AD_PROFILE + 'title = { dtype = "float32[8]", ngrams = [2, 2] }',
            "title.ngrams: expected different numbers of words from 1 to 5, got [2, 2]",
        ),
        (
            AD_PROFILE + 'title = { dtype = "float32[8]", ngrams = ["a"] }',
            "title.ngrams: expected a list of whole numbers such as [1, 2], got ['a']",
        ),
        ("[context.c]\nngrams = [1]", "context.c.ngrams: unknown key"),
        (AD_PROFILE + WINDOWS.replace("7d", "decayed"), 'half_life: is missing; give for example half_life = "24h"'),
        (
            AD_PROFILE + WINDOWS.replace('"7d" }', '"decayed", half_life = "30m" }'),
            "seen.half_life: is shorter than the view's step of 1h, got 30m",
        ),
        (
            AD_PROFILE + WINDOWS.replace('"7d" }', '"7d", half_life = "2h" }'),
            'seen.half_life: is of decayed counts: impressions = "decayed"',
        ),
        (
            AD_PROFILE + TOWARDS,
            'rate.towards: there is no "campaign.rate" to pull towards; known rates of groups of ads are clicks.rate',
        ),
        (
            AD_PROFILE + CAMPAIGN + TOWARDS.replace("campaign.rate", "campaign.seen"),
            'there is no "campaign.seen" to pull',
        ),
        (
            AD_PROFILE + CAMPAIGN.replace('by = "ad_profile.campaign"', "") + TOWARDS,
            'there is no "campaign.rate" to pull',
        ),
        (AD_PROFILE + CAMPAIGN.replace('"1h"', '"2h"') + TOWARDS, 'the step of view "campaign" is 2h, here it is 1h'),
        (AD_PROFILE + CAMPAIGN.replace('"10m"', '"5m"') + TOWARDS, 'the lag of view "campaign" is 5m, here it is 10m'),
        (
            AD_PROFILE + TOWARDS.replace("campaign.rate", "clicks.rate"),
            '"clicks.rate" is itself pulled towards view "clicks"',
        ),
        (
            AD_PROFILE
            + TOWARDS
            + TOWARDS.replace("views.clicks", "views.campaign").replace("campaign.rate", "clicks.rate"),
            'campaign.features.rate.towards: "clicks.rate" is itself pulled towards view "campaign"',
        ),
        (
            AD_PROFILE + CAMPAIGN + TOWARDS.replace("prior_impressions = 20, ", ""),
            "rate.towards: pulls by prior_impressions, which must be above 0",
        ),
        (
            AD_PROFILE + CAMPAIGN + WINDOWS.replace('"7d" }', '"7d", towards = "campaign.rate" }'),
            "seen.towards: smooths a ctr; impressions are counted as they are",
        ),
        (
            AD_PROFILE + '[pairs.p]\nop = "cross_hash"\nleft = "user.segment"\nright = "ad_profile.campaign"',
            'pairs.p.left: there is no "user.segment" to read; known are ad_profile.campaign',
        ),
        (
            AD_PROFILE + '[pairs.p]\nop = "equal"\nleft = "ad_profile.price"\nright = "ad_profile.campaign"',
            'pairs.p.left: equal works on id features; "ad_profile.price" is float32',
        ),
        (
            AD_PROFILE + '[pairs.p]\nop = "product"\nleft = "ad_profile.embedding"\nright = "ad_profile.price"',
            'pairs.p.left: "ad_profile.embedding" has 16 numbers; only the left side of lookup is a vector',
        ),
        ('[pairs.p]\nop = "xor"\nleft = "a"\nright = "b"', "pairs.p.op: expected one of cross_hash"),
        (
            '[views.v]\nentity="user"\nttl="1d"\nsql="SELECT 1"\n[views.v.features]\nn={column="m"}',
            "views.v.features.n.column: unknown key",
        ),
        ("[context.rating]\n", 'context.rating.column: reads "rating", which says whether the impression was clicked'),
        ("[context.slot]\n", 'context.slot.column: reads "slot", the position, which is unknown'),
        ("[context.chance]\n", 'context.chance.column: reads "chance", the propensity, which tells of the policy'),
        ('[context.c]\ndtype = "float32[3]"', "context.c.dtype: a context value is one number or one category"),
        (
            '[views.v]\nentity="user"\nttl="1d"\nsql="SELECT 1; SELECT 2"\n[views.v.features]\nn={}',
            "views.v.sql: expected one statement, got 2",
        ),
        (
            '[views.v]\nentity="user"\nttl="1d"\nsql="DROP TABLE log"\n[views.v.features]\nn={}',
            "views.v.sql: expected one SELECT",
        ),
        (
            '[views.v]\nentity="user"\nttl="1d"\nsql="SELEC (1"\n[views.v.features]\nn={}',
            "views.v.sql: ",
        ),
    ],
)
def test_a_mistake_is_told_with_its_path(text: str, expected: str) -> None:
    """Silence would train on a default that nobody asked for."""
    message = complaint(HEAD + text)

    assert message.startswith("features.toml: ")
    assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "project: is missing"),
        ('project = "shop"', "project: expected a table, got 'shop'"),
        ('[project]\nname = "Shop!"', 'project.name: expected 1 to 32 of a-z, 0-9 and "-"'),
        ('[project]\nname = "s"\ntime_zone = "Mars/Base"', 'project.time_zone: unknown time zone "Mars/Base"'),
        ('[project]\nname = "s"\nhash_seed = -1', "project.hash_seed: must be 0 or more"),
        ('[project]\nname = "s"\n[label]\nobserved_until = 5', "label.observed_until: means nothing without a window"),
        (
            '[project]\nname = "s"\n[label]\nwindow = "1h"\nobserved_until = "noon"',
            "label.observed_until: expected a time such as",
        ),
        ('[project]\nname = "s"\n[label]\nwindow = "0h"', "label.window: is 0, so no click would count"),
        ('[project]\nname = "s"\n[log]\ntime = { unit = "s" }', "log.time.column: is missing"),
        ('[project]\nname = "s"\n[log]\ntime = { column = "t", unit = "h" }', "log.time.unit: expected one of"),
        ('[project]\nname = "s"\n' + AD_PROFILE, "log.ad_id does not say which column holds the ad's id"),
        (
            '[project]\nname = "s"\n[log]\nad_id = "a"\n' + AD_PROFILE + WINDOWS,
            "views.clicks: its rows have times, but log.time does not say",
        ),
    ],
)
def test_a_definition_that_cannot_be_is_refused(text: str, expected: str) -> None:
    """What the log cannot deliver is told before any data is read."""
    assert expected in complaint(text)


def test_dated_rows_from_elsewhere_need_no_log_with_a_time() -> None:
    """Whoever has features and a model and no log declares what they have, and nothing else."""
    dated = AD_PROFILE.replace("[views.ad_profile.features]", 'event_time = "at"\n[views.ad_profile.features]')
    elsewhere = re.sub(r'from = "[^"]*"', 'from = "external"', dated)
    log = '[project]\nname = "s"\n[log]\nad_id = "a"\n'

    assert parse_project(log + elsewhere, origin="features.toml").tables["ad_profile"].event_time is not None
    assert "its rows have times" in complaint(log + dated)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """The message names the file and the byte."""
    path = tmp_path / "features.toml"
    path.write_bytes(b'[project]\nname = "\xff"\n')

    with pytest.raises(SchemaError, match="not UTF-8 at byte 18"):
        load_project(path)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_definition(name: str) -> None:
    """What we ship must pass what we demand of others."""
    assert preset(name).origin == f"{name}.toml"


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", DOCUMENTATION, re.DOTALL))
def test_every_example_of_the_documentation_is_valid(text: str) -> None:
    """It is copied before it is read."""
    assert parse_project(text, origin="features.toml").schema.project == "shop"


@pytest.mark.parametrize("text", ["500ms", "30s", "90m", "36h", "7d", "14d"])
def test_a_duration_is_shown_as_it_was_written(text: str) -> None:
    """A message about 604800000 helps nobody."""
    table = TomlTable("f", "", {"d": text})

    assert shown_duration(table.duration_ms("d")) == text

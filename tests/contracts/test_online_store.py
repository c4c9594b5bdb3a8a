"""What every online store promises, whichever it is. A new store is done when this passes."""

from __future__ import annotations

import pytest

from feature_store.errors import CodecError, EntityIdError, SchemaError, ViewNotMaterialized, WriterBusy
from feature_store.online.codec import decode_rows
from feature_store.online.layout import ViewKeys
from feature_store.online.store import WriteReport
from feature_store.rows import Rows
from feature_store.schema import FeatureView
from tests.stores import DAY_MS, StoreParts, make_view, numbered

USERS = make_view("user_profile", "user")
ADS = make_view("ad_profile", "ad")


def write(
    parts: StoreParts, view: FeatureView, entity_ids: list[str], numbers: list[float], time_ms: int | list[int]
) -> WriteReport:
    """One finished session with one batch."""
    with parts.writer.session(view) as session:
        report = session.write(entity_ids, *numbered(view, numbers, time_ms))
        session.finish()
    return report


async def read(parts: StoreParts, project: str, view: FeatureView, entity_ids: list[str]) -> Rows:
    keys = ViewKeys(project, view).rows(entity_ids)
    return decode_rows(view, await parts.store.get_many(keys, timeout_ms=1_000))


async def test_a_missing_entity_keeps_its_place(parts: StoreParts, project: str) -> None:
    """Row i answers key i: a miss must not hand one entity the features of its neighbour."""
    write(parts, USERS, ["u7", "u9"], [7, 9], parts.clock())

    rows = await read(parts, project, USERS, ["u7", "u404", "u9"])

    assert rows.found.tolist() == [True, False, True]
    assert rows.floats[:, 0].tolist() == [7.0, 0.5, 9.0]


async def test_no_keys_are_no_rows(parts: StoreParts) -> None:
    """A request without user views must not become a command without keys, which is an error in Redis."""
    assert await parts.store.get_many([], timeout_ms=1_000) == []


async def test_an_older_row_never_replaces_a_newer_one(parts: StoreParts, project: str) -> None:
    """A backfill of last week must not undo today."""
    now = parts.clock()
    write(parts, USERS, ["u1", "u2"], [2, 2], now)

    report = write(parts, USERS, ["u1", "u3"], [1, 3], now - 1)

    rows = await read(parts, project, USERS, ["u1", "u2", "u3"])
    assert rows.floats[:, 0].tolist() == [2.0, 2.0, 3.0]
    assert report == WriteReport(written=1, older_skipped=1)


async def test_a_newer_row_replaces_an_older_one(parts: StoreParts, project: str) -> None:
    """Otherwise nothing would ever change."""
    now = parts.clock()
    write(parts, USERS, ["u1"], [1], now - 5)

    write(parts, USERS, ["u1"], [2], now)

    rows = await read(parts, project, USERS, ["u1"])
    assert rows.floats[0, 0] == 2.0
    assert rows.event_time_ms[0] == now


async def test_of_two_rows_with_equal_event_time_the_later_written_wins(parts: StoreParts, project: str) -> None:
    """A corrected value is written again under the same event time."""
    now = parts.clock()
    write(parts, USERS, ["u1"], [1], now)

    write(parts, USERS, ["u1"], [2], now)

    rows = await read(parts, project, USERS, ["u1"])
    assert rows.floats[0, 0] == 2.0


async def test_one_batch_may_hold_an_entity_twice(parts: StoreParts, project: str) -> None:
    """Files with history are loaded as they are; their order of rows is no order of time."""
    now = parts.clock()

    report = write(parts, USERS, ["u1", "u2", "u1", "u1"], [3, 9, 1, 4], [now, now, now - 7, now])

    rows = await read(parts, project, USERS, ["u1", "u2"])
    assert rows.floats[:, 0].tolist() == [4.0, 9.0]
    assert report == WriteReport(written=2, older_skipped=2)


async def test_an_expired_row_is_not_written(parts: StoreParts, project: str) -> None:
    """It would live for the blink between SET and expiry, and a backfill is full of such rows."""
    now = parts.clock()

    report = write(parts, USERS, ["u1", "u2"], [1, 2], [now - DAY_MS, now])

    rows = await read(parts, project, USERS, ["u1", "u2"])
    assert rows.found.tolist() == [False, True]
    assert report == WriteReport(written=1, expired_skipped=1)


async def test_a_row_expires_by_event_time_not_by_write_time(parts: StoreParts, project: str) -> None:
    """Backfilling must not give old rows a fresh life: training would not have seen them."""
    brief = make_view("brief", ttl_ms=60_000)
    parts.clock.ahead_ms = -120_000  # the writer lives two minutes ago, the store's reader now
    write(parts, brief, ["u1"], [1], parts.clock())
    parts.clock.ahead_ms = 0

    rows = await read(parts, project, brief, ["u1"])

    assert not rows.found[0]


def test_a_time_to_live_that_is_not_positive_is_refused(parts: StoreParts) -> None:
    """Every row of such a view would be missing, silently."""
    view = make_view("never", ttl_ms=0)

    with pytest.raises(SchemaError, match=r"'never': time-to-live is 0 ms"), parts.writer.session(view):
        pass


@pytest.mark.parametrize("bad", ["", "a b", "a{b", "a}b", "x" * 65, "é" * 33, "tab\t", "line\n", "\x7f"])
async def test_a_hostile_id_refuses_its_whole_batch(parts: StoreParts, project: str, bad: str) -> None:
    """A brace moves the Cluster hash tag and a line break tears the catalogue; half a batch is worse than none."""
    with parts.writer.session(USERS) as session, pytest.raises(EntityIdError):
        session.write(["fine", bad], *numbered(USERS, [1, 2], parts.clock()))

    rows = await read(parts, project, USERS, ["fine"])
    assert not rows.found[0]


async def test_ids_may_be_any_other_text(parts: StoreParts, project: str) -> None:
    """Shops call their things in their own language, and some ids look like patterns or paths."""
    entity_ids = ["ä" * 32, "東京", "*", "a:b", "@changes", "../x", "'", '"']
    write(parts, USERS, entity_ids, list(range(len(entity_ids))), parts.clock())

    rows = await read(parts, project, USERS, entity_ids)

    assert rows.floats[:, 1].tolist() == list(range(len(entity_ids)))


def test_arrays_of_another_view_are_refused(parts: StoreParts) -> None:
    """Stored one column off, every value would still look like a number."""
    wider = make_view(n_float=3)

    with parts.writer.session(USERS) as session, pytest.raises(CodecError, match=r"floats have shape \(1, 3\)"):
        session.write(["u1"], *numbered(wider, [1], parts.clock()))


def test_microseconds_are_not_taken_for_milliseconds(parts: StoreParts) -> None:
    """Such a row would be newer than every later one, for the next fifty thousand years."""
    with parts.writer.session(USERS) as session, pytest.raises(CodecError, match="milliseconds since 1970"):
        session.write(["u1"], *numbered(USERS, [1], parts.clock() * 1_000))


async def test_views_with_other_meanings_do_not_meet(parts: StoreParts, project: str) -> None:
    """While a changed view is materialized, the old model goes on reading the old rows."""
    changed = make_view("user_profile", "user", n_float=3)
    write(parts, USERS, ["u1"], [1], parts.clock())
    write(parts, changed, ["u1"], [2], parts.clock())

    rows = await read(parts, project, USERS, ["u1"])

    assert rows.floats[0, 0] == 1.0


def test_a_view_has_one_writer_at_a_time(parts: StoreParts) -> None:
    """Two writers would each ask whether they are newer before the other writes."""
    busy = pytest.raises(WriterBusy, match="'user_profile' is being written")

    with parts.writer.session(USERS), busy, parts.writer.session(USERS):
        pass


def test_the_lock_is_free_after_a_session_that_failed(parts: StoreParts) -> None:
    """A job that stumbled over its input is run again at once."""
    with pytest.raises(CodecError), parts.writer.session(USERS) as session:
        session.write(["u1"], *numbered(make_view(n_float=9), [1], parts.clock()))

    with parts.writer.session(USERS) as session:
        session.finish()


def test_a_session_that_did_not_finish_is_resumed(parts: StoreParts) -> None:
    """A killed job goes on where it was; a finished one starts afresh."""
    with parts.writer.session(USERS) as session:
        session.write(["u1"], *numbered(USERS, [1], parts.clock()))
        session.save_resume_point("rows 0 to 1 are done")

    with parts.writer.session(USERS) as session:
        found = session.resume_point
        session.write(["u2"], *numbered(USERS, [2], parts.clock()))
        state = session.finish()
    with parts.writer.session(USERS) as session:
        afterwards = session.resume_point

    assert found == "rows 0 to 1 are done"
    assert state.rows == 2
    assert afterwards is None


def test_a_view_is_not_served_before_a_session_finished(parts: StoreParts) -> None:
    """Half a view looks like many missing users."""
    with parts.writer.session(USERS) as session:
        session.write(["u1"], *numbered(USERS, [1], parts.clock()))

    (state,) = parts.catalogue.states()

    assert state.fingerprint == USERS.fingerprint
    assert state.finished_ms is None


def test_a_finished_view_tells_what_it_holds(parts: StoreParts) -> None:
    """`inspect`, `prune` and a starting service know a view only from here."""
    now = parts.clock()
    write(parts, USERS, ["u1", "u2"], [1, 2], [now - 9, now])

    (state,) = parts.catalogue.states()

    assert (state.view, state.fingerprint, state.rows) == ("user_profile", USERS.fingerprint, 2)
    assert state.watermark_ms == now
    assert state.finished_ms is not None
    assert '"user_profile"' in state.definition


async def test_rows_of_distinct_entities_still_respect_newer_ones(parts: StoreParts, project: str) -> None:
    """The promise of distinct entities speaks of one session, not of those before it."""
    now = parts.clock()
    write(parts, USERS, ["u1"], [2], now)

    with parts.writer.session(USERS, distinct=True) as session:
        session.write(["u2"], *numbered(USERS, [5], now + 5))
        report = session.write(["u1"], *numbered(USERS, [1], now - 1))
        session.finish()

    rows = await read(parts, project, USERS, ["u1"])
    assert rows.floats[0, 0] == 2.0
    assert report.older_skipped == 1


def test_a_catalogue_lists_all_items(parts: StoreParts) -> None:
    """Keys cannot be listed, and the service wants every ad before the first request."""
    entity_ids = [f"ad{i}" for i in range(2_500)]  # three chunks, the last not full
    write(parts, ADS, entity_ids, list(range(2_500)), parts.clock())

    loaded = parts.catalogue.load(ADS)

    assert sorted(loaded.entity_ids) == sorted(entity_ids)
    values = dict(zip(loaded.entity_ids, loaded.rows.floats[:, 1].tolist(), strict=True))
    assert values["ad0"] == 0.0
    assert values["ad2499"] == 2_499.0


def test_a_view_without_items_is_an_empty_catalogue(parts: StoreParts) -> None:
    """A new shop has no ads yet; that is no error."""
    write(parts, ADS, [], [], parts.clock())

    loaded = parts.catalogue.load(ADS)

    assert loaded.entity_ids == []
    assert len(loaded.rows) == 0


def test_a_view_that_was_never_published_has_no_catalogue(parts: StoreParts) -> None:
    """The service must refuse the model, not start with an empty table."""
    with pytest.raises(ViewNotMaterialized, match="'ad_profile'"):
        parts.catalogue.load(ADS)


def test_changes_name_what_changed_and_nothing_else(parts: StoreParts) -> None:
    """One edited ad must not cost a reload of a million."""
    now = parts.clock()
    write(parts, ADS, ["a1", "a2"], [1, 2], now)
    position = parts.catalogue.load(ADS).position

    write(parts, ADS, ["a2", "a3"], [20, 30], now)
    changed = parts.catalogue.changes(ADS, position)

    assert changed is not None
    assert dict(zip(changed.entity_ids, changed.rows.floats[:, 0].tolist(), strict=True)) == {"a2": 20.0, "a3": 30.0}
    assert changed.position != position


def test_no_change_is_no_rows_at_the_same_position(parts: StoreParts) -> None:
    """Refreshing every second must cost nothing while nothing happens."""
    write(parts, ADS, ["a1"], [1], parts.clock())
    position = parts.catalogue.load(ADS).position

    changed = parts.catalogue.changes(ADS, position)

    assert changed is not None
    assert changed.entity_ids == []
    assert changed.position == position


def test_a_load_after_changes_holds_them(parts: StoreParts) -> None:
    """A worker that starts late must not serve yesterday's ad."""
    now = parts.clock()
    write(parts, ADS, ["a1", "a2"], [1, 2], now)
    write(parts, ADS, ["a2", "a3"], [20, 30], now)

    loaded = parts.catalogue.load(ADS)

    values = dict(zip(loaded.entity_ids, loaded.rows.floats[:, 0].tolist(), strict=True))
    assert values == {"a1": 1.0, "a2": 20.0, "a3": 30.0}


def test_an_older_row_does_not_reach_the_catalogue(parts: StoreParts) -> None:
    """The table and Redis must tell the same about an ad."""
    now = parts.clock()
    write(parts, ADS, ["a1"], [2], now)

    write(parts, ADS, ["a1"], [1], now - 1)

    loaded = parts.catalogue.load(ADS)
    assert loaded.rows.floats[:, 0].tolist() == [2.0]


async def test_erasing_an_entity_removes_its_row(parts: StoreParts, project: str) -> None:
    """A person who leaves must be gone, not overwritten."""
    write(parts, USERS, ["u1", "u2"], [1, 2], parts.clock())

    existed = parts.eraser.delete_entity(USERS, "u1")

    rows = await read(parts, project, USERS, ["u1", "u2"])
    assert existed
    assert rows.found.tolist() == [False, True]
    assert not parts.eraser.delete_entity(USERS, "u1")


def test_an_erased_item_leaves_every_reader(parts: StoreParts) -> None:
    """A withdrawn ad must leave running tables and those that load later."""
    write(parts, ADS, ["a1", "a2"], [1, 2], parts.clock())
    position = parts.catalogue.load(ADS).position

    parts.eraser.delete_entity(ADS, "a1")

    changed = parts.catalogue.changes(ADS, position)
    assert changed is None or (changed.entity_ids == ["a1"] and not changed.rows.found[0])
    assert parts.catalogue.load(ADS).entity_ids == ["a2"]


def test_nothing_is_erased_under_a_writer(parts: StoreParts) -> None:
    """The writer could bring the entity back a moment later, and nobody would know."""
    with parts.writer.session(USERS), pytest.raises(WriterBusy):
        parts.eraser.delete_entity(USERS, "u1")


async def test_ping_answers_a_round_trip(parts: StoreParts) -> None:
    """`doctor` and the readiness page show it."""
    assert await parts.store.ping(timeout_ms=1_000) >= 0

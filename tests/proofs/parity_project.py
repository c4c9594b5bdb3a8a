"""The project of the proof of serving parity: a day of a simulated shop, with a view of every kind that counts.

sim-v1 has two weeks; its times are divided by fourteen, so that an hour holds enough impressions to serve. Ads get a
title, made of what they are, and their category's number. Between `replayed(k)`, after each of the materializations,
every window's newest as-of time stays the same, so what was materialized is also what each impression's own
point-in-time features are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests.proofs.claim import clickserve

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
MIDNIGHT_MS = 1_768_003_200_000
"""2026-01-10 00:00 UTC, when the day begins: a multiple of all steps."""
USER_LAG_MS = 3 * MINUTE_MS
USER_STEP_MS, AD_STEP_MS = 2 * HOUR_MS, 4 * HOUR_MS
AS_OF_HOURS = (8, 12, 16, 20)
CATEGORIES = 12
IMPRESSIONS = 350_000
DIVIDED = 14

FEATURES = f"""
[project]
name = "parity"
[log]
user_id = "user_id"
ad_id = "ad_id"
time = {{ column = "time_ms", unit = "ms" }}
clicked = "clicked"
click_time = {{ column = "click_time_ms", unit = "ms" }}

[views.user_profile]
entity = "user"
ttl = "3650d"
from = "users.parquet"
key = "user_id"
[views.user_profile.features]
segment = {{ dtype = "id" }}
account_age_days = {{}}

[views.user_clicks]
entity = "user"
ttl = "3650d"
step = "2h"
lag = "3m"
[views.user_clicks.features]
impressions_4h = {{ impressions = "4h" }}
clicks_all = {{ clicks = "all" }}
impressions_decayed = {{ impressions = "decayed", half_life = "3h" }}
ctr_all = {{ ctr = "all", prior_impressions = 50 }}

[views.segment_taste]
entity = "user"
ttl = "3650d"
step = "2h"
lag = "3m"
by = "user_profile.segment"
across = "ad_profile.category_index"
width = {CATEGORIES}
[views.segment_taste.features]
impressions_6h = {{ impressions = "6h" }}
ctr_all = {{ ctr = "all", prior_impressions = 100 }}
clicks_decayed = {{ clicks = "decayed", half_life = "5h" }}

[views.ad_profile]
entity = "ad"
ttl = "3650d"
from = "ads.parquet"
key = "ad_id"
[views.ad_profile.features]
campaign = {{ dtype = "id", column = "campaign_id" }}
advertiser = {{ dtype = "id", column = "advertiser_id" }}
category_index = {{}}
price = {{}}
title = {{ dtype = "float32[8]", ngrams = [1, 2] }}

[views.ad_clicks]
entity = "ad"
ttl = "3650d"
step = "4h"
[views.ad_clicks.features]
impressions_8h = {{ impressions = "8h" }}
clicks_all = {{ clicks = "all" }}
clicks_decayed = {{ clicks = "decayed", half_life = "4h" }}
ctr_decayed = {{ ctr = "decayed", half_life = "6h", prior_impressions = 30 }}
ctr_all = {{ ctr = "all", prior_impressions = 100, towards = "campaign_clicks.ctr_all" }}

[views.campaign_clicks]
entity = "ad"
ttl = "3650d"
step = "4h"
by = "ad_profile.campaign"
[views.campaign_clicks.features]
impressions_all = {{ impressions = "all" }}
ctr_all = {{ ctr = "all", prior_impressions = 200, towards = "advertiser_clicks.ctr_12h" }}

[views.advertiser_clicks]
entity = "ad"
ttl = "3650d"
step = "4h"
by = "ad_profile.advertiser"
[views.advertiser_clicks.features]
ctr_12h = {{ ctr = "12h", prior_impressions = 400 }}

[context.placement]
dtype = "id"
[context.device]
dtype = "id"
[context.hour]

[pairs.segment_category]
op = "lookup"
left = "segment_taste.ctr_all"
right = "ad_profile.category_index"
[pairs.segment_category_impressions]
op = "lookup"
left = "segment_taste.impressions_6h"
right = "ad_profile.category_index"
[pairs.segment_campaign]
op = "cross_hash"
left = "user_profile.segment"
right = "ad_profile.campaign"
"""


class ParityLog(NamedTuple):
    """n impressions in order of time, and the tables beside them, as they were written."""

    impressions: dict[str, Any]
    time_ms: npt.NDArray[np.int64]
    click_time_ms: npt.NDArray[np.int64]
    """(n,) -1 where there was no click."""
    users: dict[str, list[Any]]
    ads: dict[str, list[Any]]

    def replayed(self, hour: int) -> npt.NDArray[np.int64]:
        """Numbers of the impressions that are served after the materialization of that hour."""
        first_ms = as_of_ms(hour)
        last_ms = MIDNIGHT_MS + hour * HOUR_MS + USER_STEP_MS  # from here on the users' next step is due, less its lag
        return np.flatnonzero((self.time_ms >= first_ms) & (self.time_ms < last_ms))


def as_of_ms(hour: int) -> int:
    """When the materialization of that hour is made: the moment at which users' rows of the step become due."""
    return MIDNIGHT_MS + hour * HOUR_MS + USER_LAG_MS


def write_project(folder: Path, scratch: Path) -> ParityLog:
    """Simulates, and writes log, tables and `features.toml` into `folder`."""
    simulated = scratch / "sim"
    clickserve("simulate", "--out", simulated, "--impressions", IMPRESSIONS, "--seed", 7, cwd=scratch)
    folder.mkdir()
    log = pq.read_table(simulated / "impressions.parquet")
    sent, clicked = log["time_ms"].to_numpy(), log["clicked"].to_numpy()
    since = (sent - sent.min()) // DIVIDED
    delay = log["click_time_ms"].fill_null(0).to_numpy() - sent
    time_ms = MIDNIGHT_MS + since
    click_time_ms = np.where(clicked, time_ms + delay // DIVIDED, -1)
    log = log.set_column(log.schema.get_field_index("time_ms"), "time_ms", pa.array(time_ms))
    arrivals = pa.array(click_time_ms, mask=~clicked)
    log = log.set_column(log.schema.get_field_index("click_time_ms"), "click_time_ms", arrivals)
    pq.write_table(log, folder / "log.parquet")
    users = pq.read_table(simulated / "users.parquet")
    pq.write_table(users, folder / "users.parquet")
    ads = pq.read_table(simulated / "ads.parquet")
    names = sorted(set(ads["category"].to_pylist()))
    ads = ads.append_column("category_index", pa.array([names.index(name) for name in ads["category"].to_pylist()]))
    rows = zip(*(ads[name].to_pylist() for name in ("category", "advertiser_id", "price")), strict=True)
    titles = [
        f"{category} by {advertiser}, {'cheap' if price < 20 else 'Fine'}" for category, advertiser, price in rows
    ]
    ads = ads.append_column("title", pa.array(titles))
    pq.write_table(ads, folder / "ads.parquet")
    (folder / "features.toml").write_text(FEATURES)
    return ParityLog(log.to_pydict(), time_ms, click_time_ms, users.to_pydict(), ads.to_pydict())

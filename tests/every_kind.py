"""A small log whose views are of every kind: tables with and without times, log columns, windows, groups, SQL."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from feature_store.offline.log import Log
from tests.logs import HOUR_MS, MINUTE_MS, parquet, random_columns, shop_log

MOVED_MS = 21 * HOUR_MS + 25 * MINUTE_MS
"""When an ad changes its campaign: within a step."""

DATED = """
[views.profile]
entity = "user"
ttl = "{ttl}"
from = "users.parquet"
key = "id"
event_time = {{ column = "since", unit = "ms" }}
[views.profile.features]
age = {{}}
city = {{ dtype = "id", default = "nowhere" }}
taste = {{ dtype = "float32[2]", default = 0.25 }}
"""
EVERY_KIND = (
    DATED.format(ttl="9h")
    + """
[views.timeless]
entity = "ad"
ttl = "1h"
from = "ads.csv"
key = "id"
[views.timeless.features]
campaign = { dtype = "id" }
price = {}
title = { dtype = "float32[4]", ngrams = [1, 2] }

[views.seen_place]
entity = "user"
ttl = "5h"
from = "log"
[views.seen_place.features]
place = { dtype = "id" }
place_words = { dtype = "float32[3]", ngrams = [1], column = "place", default = 0.5 }

[views.chained]
entity = "ad"
ttl = "4h"
step = "1h"
[views.chained.features]
seen = { impressions = "3h" }
rate = { ctr = "3h", prior_impressions = 4, towards = "chained_campaign.rate" }
own_rate = { ctr = "3h", prior_impressions = 4 }
far_rate = { ctr = "decayed", half_life = "2h", prior_impressions = 4, towards = "chained_brand.rate" }

[views.chained_campaign]
entity = "ad"
ttl = "4h"
step = "1h"
by = "dated_ads.campaign"
[views.chained_campaign.features]
rate = { ctr = "all", prior_impressions = 10, towards = "chained_brand.rate" }

[views.chained_brand]
entity = "ad"
ttl = "4h"
step = "1h"
by = "dated_ads.brand"
[views.chained_brand.features]
rate = { ctr = "all", prior_impressions = 20 }

[views.dated_ads]
entity = "ad"
ttl = "90d"
from = "dated_ads.parquet"
key = "id"
event_time = { column = "since", unit = "ms" }
[views.dated_ads.features]
campaign = { dtype = "id" }
brand = { dtype = "id" }

[views.windows]
entity = "user"
ttl = "4h"
step = "30m"
lag = "20m"
[views.windows.features]
seen = { impressions = "3h" }
rate = { ctr = "all", prior_impressions = 2 }
fresh = { clicks = "decayed", half_life = "45m" }
fresh_rate = { ctr = "decayed", half_life = "5h", prior_impressions = 2 }

[views.campaign]
entity = "ad"
ttl = "4h"
step = "1h"
by = "timeless.campaign"
[views.campaign.features]
hits = { clicks = "all" }

[views.taste]
entity = "user"
ttl = "4h"
step = "1h"
by = "profile.city"
across = "timeless.price"
width = 5
[views.taste.features]
seen = { impressions = "6h" }
rate = { ctr = "all", prior_impressions = 3 }
plain_rate = { ctr = "decayed", half_life = "2h" }

[views.query]
entity = "user"
ttl = "7h"
sql = '''
    SELECT user_id AS entity_id, click_time_ms AS event_time_ms,
        count(*) OVER (PARTITION BY user_id ORDER BY click_time_ms) AS n
    FROM log WHERE clicked
'''
[views.query.features]
n = {}

[pairs.taste_of_price]
op = "lookup"
left = "taste.rate"
right = "timeless.price"
"""
)


def write_users(folder: Path) -> None:
    """u0 changes twice, once within the same millisecond; u1 is known from hour 20 on; u2 never."""
    parquet(
        folder / "users.parquet",
        {
            "id": ["u0", "u0", "u0", "u1"],
            "since": [5 * HOUR_MS, 15 * HOUR_MS, 15 * HOUR_MS, 20 * HOUR_MS],
            "age": [10, 20, 30, None],
            "city": ["oslo", None, "rome", "oslo"],
            "taste": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, None], None], type=pa.list_(pa.float64())),
        },
    )


def write_dated_ads(folder: Path) -> None:
    """a0 moves to a new campaign in the middle of a step; a2 has no campaign, a3 no brand either, others no row."""
    parquet(
        folder / "dated_ads.parquet",
        {
            "id": ["a0", "a0", "a1", "a2", "a3"],
            "since": [0, MOVED_MS, 0, 0, 0],
            "campaign": ["c0", "c9", "c0", None, None],
            "brand": ["b0", "b0", "b0", "b0", None],
        },
    )


def every_kind_log(folder: Path, seed: int = 3) -> Log:
    """300 impressions with late clicks and shared milliseconds; a table as Parquet, one as CSV."""
    write_users(folder)
    (folder / "ads.csv").write_text(
        "id,campaign,price,title\na0,c0,1.5,Red shoes\na1,c0,,\na2,c1,3,2 for 1\na3,,4,red SHOES for men\n",
        encoding="utf-8",
    )
    write_dated_ads(folder)
    return shop_log(folder, EVERY_KIND, random_columns(seed, 300))

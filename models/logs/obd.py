"""The Open Bandit Dataset: fashion items that a shop recommended by chance or by Thompson sampling, and who clicked.

One of the few public logs with propensities: the chance with which the shown item was put at its position, without
which no other policy can be judged on it. 0.5 % of the impressions are clicked. An item's number is its own only within
a campaign, so ads are named `campaign:number`. There are no users, only their segments.
The small version is read from the `obp` wheel, which is not imported (it wants torch), or from a folder that holds the
same files, or `impressions.parquet` and `items.parquet`.

Source: Saito et al. 2021, "Open Bandit Dataset and Pipeline".
"""

from __future__ import annotations

from pathlib import Path

from feature_store.errors import LogNameError
from feature_store.offline.engine import Engine, text
from feature_store.project import Project
from models.logs.opened import OpenedLog, folder_in_wheel

WHEEL = "obp"
_FOLDER_IN_WHEEL = "obp/dataset/obd"
POLICIES = ("random", "bts")
CAMPAIGNS = ("all", "men", "women")
_IMPRESSION = (
    "timestamp, item_id, position, click, propensity_score, "
    "user_feature_0, user_feature_1, user_feature_2, user_feature_3"
)
_AD_ID = "campaign || ':' || CAST(CAST(item_id AS BIGINT) AS VARCHAR) AS ad_id"
_ITEM = "item_id, item_feature_0, item_feature_1, item_feature_2, item_feature_3"


def open_obd(source: str, project: Project, engine: Engine, workdir: Path) -> OpenedLog:
    """The impressions of all campaigns and policies; writes items.parquet into a folder of `workdir`."""
    folder = Path(source) if source else folder_in_wheel(WHEEL, _FOLDER_IN_WHEEL, "obd")
    if (folder / "impressions.parquet").is_file():
        impressions = f"SELECT * FROM read_parquet({text(str(folder / 'impressions.parquet'))})"
        items = f"SELECT * FROM read_parquet({text(str(folder / 'items.parquet'))})"
    elif all((folder / policy / campaign).is_dir() for policy in POLICIES for campaign in CAMPAIGNS):
        impressions = " UNION ALL ".join(
            f"SELECT {text(policy)} AS policy, {text(campaign)} AS campaign, {_IMPRESSION} "
            f"FROM read_csv({text(str(folder / policy / campaign / f'{campaign}.csv'))})"
            for policy in POLICIES
            for campaign in CAMPAIGNS
        )
        items = " UNION ALL ".join(  # both policies recommend the same items
            f"SELECT {text(campaign)} AS campaign, {_ITEM} "
            f"FROM read_csv({text(str(folder / POLICIES[0] / campaign / 'item_context.csv'))})"
            for campaign in CAMPAIGNS
        )
    else:
        wanted = f"{POLICIES[0]}/{CAMPAIGNS[0]}/{CAMPAIGNS[0]}.csv"
        raise LogNameError(f"{folder} holds neither impressions.parquet nor {wanted}, so it is no Open Bandit Dataset")
    tables = workdir / "obd"
    tables.mkdir(parents=True, exist_ok=True)
    engine.run(
        f"COPY (SELECT {_AD_ID}, campaign, item_feature_0, item_feature_1, item_feature_2, item_feature_3 "
        f"FROM ({items})) TO {text(str(tables / 'items.parquet'))} (FORMAT parquet)"
    )
    engine.run(
        f"CREATE OR REPLACE TEMP TABLE raw AS SELECT row_number() OVER (ORDER BY timestamp) AS _line, *, {_AD_ID} "
        f"FROM ({impressions})"
    )
    return OpenedLog("raw", "the Open Bandit Dataset", tables)

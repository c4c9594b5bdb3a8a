"""Texts of files and logs on their way to hashed n-grams."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from feature_store.ngrams import ngram_vectors
from feature_store.offline.offline_store import OfflineStore
from models.logs.reader import read_log
from tests.logs import HOUR_MS, shop_project

VIEWS = """
[views.searched]
entity = "user"
ttl = "90d"
from = "log"
[views.searched.features]
query = { dtype = "float32[6]", ngrams = [1, 2] }
[views.ads]
entity = "ad"
ttl = "90d"
from = "ads.csv"
key = "id"
[views.ads.features]
title = { dtype = "float32[5]", ngrams = [1], column = "headline" }
calm = { dtype = "float32[5]", ngrams = [1], column = "headline", default = 0.0 }
"""


def test_a_csv_file_keeps_its_texts_as_they_stand(tmp_path: Path) -> None:
    """The word 007 is no number; an empty field is a missing text, and has the default if there is one."""
    (tmp_path / "log.csv").write_text(
        "who,what,at,hit,hit_at,query\n"
        + f"u0,a0,{HOUR_MS},0,,007 golden eye\nu1,a1,{2 * HOUR_MS},1,{3 * HOUR_MS},7\nu2,a9,{4 * HOUR_MS},0,,\n"
    )
    (tmp_path / "ads.csv").write_text("id,headline\na0,007\na1,\n")
    log = read_log(f"csv:{tmp_path / 'log.csv'}", shop_project(VIEWS, tmp_path), workdir=tmp_path / "work")

    with OfflineStore(log.project, log, tmp_path) as store:
        searched, ads = (store.at_impressions(view) for view in log.project.schema.views)

    np.testing.assert_array_equal(searched.floats, ngram_vectors(["007 golden eye", "7", None], (1, 2), 6, seed=0))
    of_title = ngram_vectors(["007", None, None], (1,), 5, seed=0)
    np.testing.assert_array_equal(ads.floats, np.hstack([of_title, np.nan_to_num(of_title)]))
    assert ads.found.tolist() == [True, True, False]

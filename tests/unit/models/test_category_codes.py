"""Category codes: numbers in the order of click rates, learnt without reading the row's own label."""

from __future__ import annotations

import numpy as np

from models.fitting.category_codes import MIN_SEEN, apply_codes, fit_codes


def test_codes_order_categories_by_their_click_rate() -> None:
    """Order is all that a tree can use of a category."""
    ids = np.repeat([11, 22, 33], 1_000).reshape(-1, 1)
    clicked = np.concatenate([np.arange(1_000) < clicks for clicks in (100, 10, 300)])

    (code_map,), _ = fit_codes(ids, clicked, seed=0)

    assert code_map.keys[np.argsort(code_map.codes)].tolist() == [22, 11, 33]


def test_rare_and_unseen_categories_have_no_code() -> None:
    """What was seen too rarely to have a rate is treated as what was never seen."""
    ids = np.array([11] * 500 + [22] * 500 + [33] * (MIN_SEEN - 1)).reshape(-1, 1)
    clicked = np.arange(len(ids)) % 7 == 0
    clicked[:500] = False
    clicked[0] = True

    maps, _ = fit_codes(ids, clicked, seed=0)
    codes = apply_codes(maps, np.array([[11], [22], [33], [44]]))

    assert np.isfinite(codes[:2]).all()
    assert np.isnan(codes[2:]).all()


def test_the_missing_hash_is_a_category_like_any_other() -> None:
    """That a value is missing often tells more than the value."""
    ids = np.repeat([0, 22], 1_000).reshape(-1, 1)
    clicked = np.arange(2_000) < 300

    (code_map,), _ = fit_codes(ids, clicked, seed=0)

    assert 0 in code_map.keys


def test_a_column_that_tells_nothing_has_no_map() -> None:
    """One category only, or none seen often enough: nothing to split on, nothing to export."""
    ids = np.column_stack([np.full(1_000, 5), np.arange(1_000)])

    maps, codes = fit_codes(ids, np.arange(1_000) % 10 == 0, seed=0)

    assert maps == ()
    assert codes.shape == (1_000, 0)


def test_training_codes_do_not_know_the_rows_own_label() -> None:
    """On labels drawn by chance an in-sample code agrees with its own label, and trees believe it; ours must not."""
    random = np.random.default_rng(0)
    ids = random.integers(1, 2_000, size=(20_000, 1))
    clicked = random.random(20_000) < 0.2

    maps, codes = fit_codes(ids, clicked, seed=0)

    in_sample = apply_codes(maps, ids)[:, 0]
    known = np.isfinite(codes[:, 0]) & np.isfinite(in_sample)
    assert np.corrcoef(in_sample[known], clicked[known])[0, 1] > 0.15
    assert np.corrcoef(codes[known, 0], clicked[known])[0, 1] < 0.02

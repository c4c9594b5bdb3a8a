"""Hashed n-grams: what makes two texts alike, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.ngrams import ngram_vectors, ngrams


def test_neighbouring_words_are_ngrams() -> None:
    """Punctuation and runs of space separate words, and nothing else of them is kept."""
    assert list(ngrams("  Red--SHOES, size 9!", (1, 2))) == [
        "red",
        "shoes",
        "size",
        "9",
        "red shoes",
        "shoes size",
        "size 9",
    ]
    assert list(ngrams("one", (2,))) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("Red shoes", "RED  shoes!"), ("Ｓａｌｅ ①", "sale 1"), ("caf\u00e9", "cafe\u0301"), (42, "42"), (42.0, "42")],
)
def test_a_text_has_one_vector_however_it_is_typed(one: object, other: object) -> None:
    """Case, width, composed letters and the type of a number carry no meaning."""
    vectors = ngram_vectors([one, other], (1, 2), 16, seed=3)

    assert vectors[0].any()
    assert vectors[0].tobytes() == vectors[1].tobytes()


@given(texts=st.lists(st.one_of(st.none(), st.text()), max_size=5), width=st.integers(2, 40))
def test_a_vector_has_length_one_or_says_that_there_is_nothing(texts: list[str | None], width: int) -> None:
    """NaN where no text is known; zeros where it has no word, or its n-grams cancel."""
    vectors = ngram_vectors(texts, (1, 2), width, seed=0)

    assert vectors.shape == (len(texts), width)
    for text, vector in zip(texts, vectors, strict=True):
        if text is None:
            assert np.isnan(vector).all()
        elif vector.any():
            np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-6)


def test_hashing_keeps_how_alike_texts_are() -> None:
    """Averaged over seeds, the inner product is the cosine of the word counts: signs make collisions cancel."""
    one, other = "blue cotton shirt for summer", "blue cotton shirt for winter"  # 4 of 5 words are shared

    vectors = [ngram_vectors([one, other, "cheap flights to rome today"], (1,), 16, seed) for seed in range(2_000)]

    products = np.array([[v[0] @ v[1], v[0] @ v[2]] for v in vectors])
    error = 4 * products.std(axis=0) / np.sqrt(len(products))
    assert abs(products[:, 0].mean() - 0.8) < error[0] + 0.03  # dividing by the hashed length biases it a little
    assert abs(products[:, 1].mean()) < error[1]


def test_the_vector_of_a_text_never_changes() -> None:
    """Stored rows and published models hold it."""
    (vector,) = ngram_vectors(["Summer sale: red shoes"], (1, 2), 8, seed=7)

    assert vector.tobytes().hex() == "8f84c13e000000008f84c13e8f84413f000000008f84c13e0000000000000000"

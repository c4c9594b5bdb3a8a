"""Hashed n-grams: a text as a short vector of numbers, without a vocabulary that would have to be kept.

A text becomes words (NFKC, lower case, runs of letters, digits and underscores), words become n-grams (n neighbours
joined by one space), and each n-gram adds +1 or -1 to one of `width` buckets. Both come from the XXH3-64 of the n-gram:
the low 32 bits name the bucket, the highest bit the sign, so that n-grams that meet in a bucket cancel as often as they
add up. The vector is then scaled to length 1: a long title says no more than a short one.
A text without a word is all zeros; a missing text is NaN, like any missing number. Sums are whole numbers and the scale
is rounded once, so every machine makes the same bits. Cost: about 1 µs an n-gram; callers ask for distinct texts only.

Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from feature_store.ids import canonical_text

MAX_WORDS = 5
"""Of an n-gram; longer ones hardly ever occur twice."""
_WORD = re.compile(r"\w+")


def ngram_vectors(values: Sequence[object], sizes: Sequence[int], width: int, seed: int) -> npt.NDArray[np.float32]:
    """(len(values), width) float32 of texts; a number stands for its decimal, None for nothing known (NaN).

    Args:
        values: n texts.
        sizes: how many words an n-gram has, for example 1 and 2.
        width: number of buckets.
        seed: of the hash.
    """
    vectors = np.full((len(values), width), np.nan, dtype=np.float32)
    for row, value in enumerate(values):
        text = canonical_text(value)
        if text is None:
            continue
        counts = np.zeros(width)
        for ngram in ngrams(text, sizes):
            digest = xxhash.xxh3_64_intdigest(ngram.encode("utf-8", "surrogatepass"), seed)
            counts[(digest & 0xFFFFFFFF) % width] += -1.0 if digest >> 63 else 1.0
        length = np.sqrt(np.sum(counts * counts))
        vectors[row] = counts / length if length else counts
    return vectors


def ngrams(text: str, sizes: Sequence[int]) -> Iterator[str]:
    """The n-grams of a text: "Red  SHOES!" has red and shoes, and of two words "red shoes"."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    for size in sizes:
        for start in range(len(words) - size + 1):
            yield " ".join(words[start : start + size])

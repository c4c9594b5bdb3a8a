/* The sums of exit leaves for 16 pairs at a time, where the processor has AVX-512 (F and CD) and words are of 4 bytes.
 *
 * What is left of 16 trees is read for 16 pairs, one cache line each, and turned by 90 degrees: then a register holds
 * one tree's words of 16 pairs, and they are looked up in the tree's 32 leaves all at once. Additions come in the order
 * of `leaf_sum_uint32_t`, so the answers are the same to the bit.
 */
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <stdlib.h>

#define TILE 16
#define TILE_PAYS 5 /* pairs; with fewer a tile takes as long as one by one */
#define AVX512 __attribute__((target("avx512f,avx512cd")))

static int has_tiles(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd"); }

/* The 32 leaves of each tree with the last one first, as counting leading zeros finds them; NULL without memory. */
static double *tile_leaves(const double *leaves, Py_ssize_t n_trees) {
    double *reversed = n_trees ? aligned_alloc(64, (size_t)n_trees * 32 * sizeof(double)) : NULL;
    for (Py_ssize_t i = 0; reversed && i < n_trees * 32; i++) reversed[i / 32 * 32 + 31 - i % 32] = leaves[i];
    return reversed;
}

/* Row i, place j becomes row j, place i. */
AVX512 static inline void turn(__m512i r[TILE]) {
    __m512i s[TILE];
    for (int i = 0; i < TILE; i += 2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < TILE; i += 4) {
        r[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
    }
    for (int i = 0; i < 4; i++) { /* quarters of registers from here on */
        s[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        s[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        s[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        s[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(s[i], s[i + 8], 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(s[i + 4], s[i + 12], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(s[i], s[i + 8], 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(s[i + 4], s[i + 12], 0xdd);
    }
}

/* 8 of a tree's 32 leaves: an index of 5 bits chooses among 16 by its lower four, twice, then by its highest. */
AVX512 static inline __m512d chosen(const double *leaves, __m512i index) {
    __m512d first = _mm512_permutex2var_pd(_mm512_load_pd(leaves), index, _mm512_load_pd(leaves + 8));
    __m512d last = _mm512_permutex2var_pd(_mm512_load_pd(leaves + 16), index, _mm512_load_pd(leaves + 24));
    return _mm512_mask_blend_pd(_mm512_test_epi64_mask(index, _mm512_set1_epi64(16)), first, last);
}

/* Adds one tree's exit leaves of 16 pairs to their sums: pairs 0 to 7, and 8 to 15. */
AVX512 static inline void add_leaves(const double *leaves, __m512i left, __m512d sums[2]) {
    __m512i lowest = _mm512_and_si512(left, _mm512_sub_epi32(_mm512_setzero_si512(), left));
    __m512i index = _mm512_lzcnt_epi32(lowest); /* 32 where nothing is left, which chooses as 0 does */
    sums[0] = _mm512_add_pd(sums[0], chosen(leaves, _mm512_cvtepu32_epi64(_mm512_castsi512_si256(index))));
    sums[1] = _mm512_add_pd(sums[1], chosen(leaves, _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(index, 1))));
}

/* Sums of 16 pairs. a, b: their ads' words and their users' and contexts'; next: ads whose words are wanted after. */
AVX512 static void sum_tile(const double *leaves, Py_ssize_t n_trees, const uint32_t *const a[TILE],
                            const uint32_t *const b[TILE], const uint32_t *const next[TILE], double out[TILE]) {
    __m512d sums[4][2];
    for (int i = 0; i < 4; i++) sums[i][0] = sums[i][1] = _mm512_setzero_pd();
    for (Py_ssize_t t = 0; t < n_trees; t += TILE, leaves += 32 * TILE) {
        Py_ssize_t n = n_trees - t < TILE ? n_trees - t : TILE;
        __mmask16 there = (__mmask16)((1u << n) - 1);
        __m512i left[TILE];
        for (int i = 0; i < TILE; i++) {
            __builtin_prefetch(next[i] + t);
            left[i] = _mm512_and_si512(_mm512_maskz_loadu_epi32(there, a[i] + t), _mm512_maskz_loadu_epi32(there, b[i] + t));
        }
        turn(left);
        if (n == TILE) {
#pragma GCC unroll 16
            for (int j = 0; j < TILE; j++) add_leaves(leaves + 32 * j, left[j], sums[j & 3]);
        } else {
            for (int j = 0; j < n; j++) add_leaves(leaves + 32 * j, left[j], sums[j < (n & ~3) ? j & 3 : 0]);
        }
    }
    for (int half = 0; half < 2; half++)
        _mm512_storeu_pd(out + 8 * half, _mm512_add_pd(_mm512_add_pd(sums[0][half], sums[1][half]),
                                                       _mm512_add_pd(sums[2][half], sums[3][half])));
}

/* Answers pairs from the first on, all or all but a few, which are faster one by one; says how many. */
static Py_ssize_t score_tiles(const double *leaves, Py_ssize_t n_trees, const Pairs *pairs) {
    const uint32_t *shared = pairs->shared.buf, *a[TILE], *b[TILE], *next[TILE];
    const Py_ssize_t step = pairs->shared.shape[0] == 1 ? 0 : n_trees, last = pairs->n - 1;
    Py_ssize_t start = 0;
    if (pairs->n >= TILE_PAYS)
        for (Py_ssize_t i = 0; i < TILE && i <= last; i++) prefetch_ad_part(pairs, i);
    for (; pairs->n - start >= TILE_PAYS; start += TILE) {
        double sums[TILE];
        for (Py_ssize_t i = 0; i < TILE; i++) { /* a tile that is not full repeats the last pair */
            Py_ssize_t pair = start + i < last ? start + i : last, after = pair + TILE < last ? pair + TILE : last;
            a[i] = ad_part(pairs, pair);
            b[i] = shared + pair * step;
            next[i] = ad_part(pairs, after);
        }
        sum_tile(leaves, n_trees, a, b, next, sums);
        for (Py_ssize_t i = 0; i < TILE && start + i <= last; i++) answer_pair(pairs, start + i, sums[i]);
    }
    return start < pairs->n ? start : pairs->n;
}
#else
static int has_tiles(void) { return 0; }
static double *tile_leaves(const double *leaves, Py_ssize_t n_trees) { return (void)leaves, (void)n_trees, NULL; }
static Py_ssize_t score_tiles(const double *leaves, Py_ssize_t n_trees, const Pairs *pairs) {
    return (void)leaves, (void)n_trees, (void)pairs, 0;
}
#endif

/* The sums of exit leaves for a tile of pairs at a time, where the processor has AVX-512 (F and CD): 16 pairs of trees
 * of up to 32 leaves, 8 of larger ones.
 *
 * What is left of 16 (8) trees is read for each pair, one register and cache line each, and turned by 90 degrees: a
 * register then holds one tree's words of all pairs, and they are looked up in the tree's leaves at once. Additions
 * come in the order of `leaf_sum_WORD`, so the answers are the same to the bit (but for damaged words, without any leaf
 * left).
 */
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define MOST_PAIRS 16
#define TILE_PAYS 6 /* pairs: 5 of 31 leaves took as long one by one, 3 of 64 leaves 2.3 us instead of 3.1 (Zen 5) */
#define AVX512 __attribute__((target("avx512f,avx512cd")))
#define ZERO _mm512_setzero_si512()

static int has_tiles(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd"); }

/* Leaves of each tree with the last one first, as counting leading zeros finds them; NULL without memory. */
static double *tile_leaves(const double *leaves, Py_ssize_t n_trees, Py_ssize_t width) {
    double *reversed = n_trees ? aligned_alloc(64, (size_t)(n_trees * width) * sizeof(double)) : NULL;
    for (Py_ssize_t i = 0; reversed && i < n_trees * width; i++)
        reversed[i - i % width + width - 1 - i % width] = leaves[i];
    return reversed;
}

/* 8 of 16 leaves, by the lowest 4 bits of each index; 8 of 32, by 5; 8 of 64, by 6. Higher bits count for nothing. */
AVX512 static inline __m512d of_16(const double *leaves, __m512i index) {
    return _mm512_permutex2var_pd(_mm512_load_pd(leaves), index, _mm512_load_pd(leaves + 8));
}
AVX512 static inline __m512d of_32(const double *leaves, __m512i index) {
    __mmask8 is_last = _mm512_test_epi64_mask(index, _mm512_set1_epi64(16));
    return _mm512_mask_blend_pd(is_last, of_16(leaves, index), of_16(leaves + 16, index));
}
AVX512 static inline __m512d of_64(const double *leaves, __m512i index) {
    __mmask8 is_last = _mm512_test_epi64_mask(index, _mm512_set1_epi64(32));
    return _mm512_mask_blend_pd(is_last, of_32(leaves, index), of_32(leaves + 32, index));
}

/* ---- words of 4 bytes, 16 pairs: sums of pairs 0 to 7, and of 8 to 15 ---- */

AVX512 static inline void turn_16(__m512i r[16]) {
    __m512i s[16];
    for (int i = 0; i < 16; i += 2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
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

AVX512 static inline __m512i left_of_4(__mmask16 there, const void *a, const void *b) {
    return _mm512_and_si512(_mm512_maskz_loadu_epi32(there, a), _mm512_maskz_loadu_epi32(there, b));
}

AVX512 static inline void add_16(const double *leaves, __m512i left, __m512d sums[2]) {
    __m512i index = _mm512_lzcnt_epi32(_mm512_and_si512(left, _mm512_sub_epi32(ZERO, left)));
    sums[0] = _mm512_add_pd(sums[0], of_32(leaves, _mm512_cvtepu32_epi64(_mm512_castsi512_si256(index))));
    sums[1] = _mm512_add_pd(sums[1], of_32(leaves, _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(index, 1))));
}

/* ---- words of 8 bytes, 8 pairs ---- */

AVX512 static inline void turn_8(__m512i r[8]) {
    __m512i s[8];
    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm512_unpacklo_epi64(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi64(r[i], r[i + 1]);
    }
    for (int i = 0; i < 2; i++) { /* quarters of registers from here on */
        r[i] = _mm512_shuffle_i64x2(s[i], s[i + 2], 0x88);
        r[i + 2] = _mm512_shuffle_i64x2(s[i], s[i + 2], 0xdd);
        r[i + 4] = _mm512_shuffle_i64x2(s[i + 4], s[i + 6], 0x88);
        r[i + 6] = _mm512_shuffle_i64x2(s[i + 4], s[i + 6], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        s[i] = _mm512_shuffle_i64x2(r[i], r[i + 4], 0x88);
        s[i + 4] = _mm512_shuffle_i64x2(r[i], r[i + 4], 0xdd);
    }
    for (int i = 0; i < 8; i++) r[i] = s[i];
}

AVX512 static inline __m512i left_of_8(__mmask16 there, const void *a, const void *b) {
    __mmask8 here = (__mmask8)there;
    return _mm512_and_si512(_mm512_maskz_loadu_epi64(here, a), _mm512_maskz_loadu_epi64(here, b));
}

AVX512 static inline void add_8(const double *leaves, __m512i left, __m512d sums[1]) {
    __m512i index = _mm512_lzcnt_epi64(_mm512_and_si512(left, _mm512_sub_epi64(ZERO, left)));
    sums[0] = _mm512_add_pd(sums[0], of_64(leaves, index));
}

/* ---- both: sums of the N pairs of a tile ----
 *
 * a, b: their ads' words and their users' and contexts'; next: ads whose words are wanted after. */
#define DEFINE_SUM_TILE(N, WORD_BYTES, WIDTH)                                                                          \
    AVX512 static void sum_tile_##N(const double *leaves, Py_ssize_t n_trees, const char *const *a,                    \
                                    const char *const *b, const char *const *next, double *out) {                      \
        __m512d sums[4][N / 8];                                                                                        \
        for (int i = 0; i < 4; i++)                                                                                    \
            for (int part = 0; part < N / 8; part++) sums[i][part] = _mm512_setzero_pd();                              \
        for (Py_ssize_t t = 0; t < n_trees; t += N, leaves += WIDTH * N) {                                             \
            Py_ssize_t n = n_trees - t < N ? n_trees - t : N, at = t * WORD_BYTES;                                     \
            __mmask16 there = (__mmask16)((1u << n) - 1);                                                              \
            __m512i left[N];                                                                                           \
            for (int i = 0; i < N; i++) {                                                                              \
                __builtin_prefetch(next[i] + at);                                                                      \
                left[i] = left_of_##WORD_BYTES(there, a[i] + at, b[i] + at);                                           \
            }                                                                                                          \
            turn_##N(left);                                                                                            \
            if (n == N) {                                                                                              \
                _Pragma("GCC unroll 16") for (int j = 0; j < N; j++)                                                   \
                    add_##N(leaves + WIDTH * j, left[j], sums[j & 3]);                                                 \
            } else {                                                                                                   \
                for (int j = 0; j < n; j++) add_##N(leaves + WIDTH * j, left[j], sums[j < (n & ~3) ? j & 3 : 0]);      \
            }                                                                                                          \
        }                                                                                                              \
        for (int part = 0; part < N / 8; part++)                                                                       \
            _mm512_storeu_pd(out + 8 * part, _mm512_add_pd(_mm512_add_pd(sums[0][part], sums[1][part]),                \
                                                           _mm512_add_pd(sums[2][part], sums[3][part])));              \
    }
DEFINE_SUM_TILE(16, 4, 32)
DEFINE_SUM_TILE(8, 8, 64)

/* Answers pairs from the first on, all or all but a few, which are faster one by one; says how many. */
static Py_ssize_t score_tiles(const double *leaves, Py_ssize_t n_trees, Py_ssize_t word, const Pairs *pairs) {
    const Py_ssize_t tile = 64 / word;
    const Py_ssize_t step = pairs->shared.shape[0] == 1 ? 0 : n_trees * word, last = pairs->n - 1;
    const char *shared = pairs->shared.buf, *a[MOST_PAIRS], *b[MOST_PAIRS], *next[MOST_PAIRS];
    Py_ssize_t start = 0;
    if (pairs->n >= TILE_PAYS)
        for (Py_ssize_t i = 0; i < tile && i <= last; i++) prefetch_ad_part(pairs, i);
    for (; pairs->n - start >= TILE_PAYS; start += tile) {
        double sums[MOST_PAIRS];
        for (Py_ssize_t i = 0; i < tile; i++) { /* a tile that is not full repeats the last pair */
            Py_ssize_t pair = start + i < last ? start + i : last, after = pair + tile < last ? pair + tile : last;
            a[i] = ad_part(pairs, pair);
            b[i] = shared + pair * step;
            next[i] = ad_part(pairs, after);
        }
        (word == 4 ? sum_tile_16 : sum_tile_8)(leaves, n_trees, a, b, next, sums);
        for (Py_ssize_t i = 0; i < tile && start + i <= last; i++) answer_pair(pairs, start + i, sums[i]);
    }
    return start < pairs->n ? start : pairs->n;
}
#else
static int has_tiles(void) { return 0; }
static double *tile_leaves(const double *leaves, Py_ssize_t n_trees, Py_ssize_t width) {
    return (void)leaves, (void)n_trees, (void)width, NULL;
}
static Py_ssize_t score_tiles(const double *leaves, Py_ssize_t n_trees, Py_ssize_t word, const Pairs *pairs) {
    return (void)leaves, (void)n_trees, (void)word, (void)pairs, 0;
}
#endif

/* Scores tree ensembles for many candidates of one request: the compiled twin of `NumpyTreeKernel`.
 *
 * Idea (QuickScorer, Lucchese et al. 2015, factorised by entity): leaves of a tree are numbered from left to right. A
 * failed test `x <= t` rules out the leaves of its left branch, so it is a bit mask to AND with; the exit leaf is the
 * lowest bit left. The masks of a user, of an ad and of a context are computed apart, once each, and a pair costs one
 * AND, one count of trailing zeros and one addition per tree.
 *
 * A column's tests are sorted by threshold, so a value fails the first p of them. Every `stride` tests the AND of all
 * before is stored as a row over all trees; from there at most stride - 1 tests are applied one by one. The last row of
 * a column is for a missing value (NaN).
 *
 * Arrays come through the buffer protocol, C-contiguous, native byte order; sizes are checked against each other, and
 * no index is used before it was checked. `TreeTables` (tree_tables.py) makes and describes them.
 *
 * Where the processor has AVX-512, 16 or 8 pairs are scored at a time (_trees_avx512.h), with the same answers.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <structmember.h>

#include "_kernel.h"
#include "_trees_avx512.h"

enum { CUTS, TEST_TREE, TEST_MASK, COLUMN_START, ROWS, COLUMN_ROW, LEAVES, KEYS, CODES, KEY_START, CODE_COLUMN,
       KNOTS, INTERCEPTS, SLOPES, SCALES, SHIFTS, N_ARRAYS };

/* Bytes of a value, 0 for those of a mask. */
static const struct { const char *name, *kind; Py_ssize_t item; } ARRAYS[N_ARRAYS] = {
    {"cuts", FLOATING, 8}, {"test_tree", SIGNED, 4}, {"test_mask", UNSIGNED, 0}, {"column_start", SIGNED, 8},
    {"rows", UNSIGNED, 0}, {"column_row", SIGNED, 8}, {"leaves", FLOATING, 8}, {"keys", UNSIGNED, 4},
    {"codes", FLOATING, 4}, {"key_start", SIGNED, 8}, {"code_column", SIGNED, 8}, {"knots", FLOATING, 8},
    {"intercepts", FLOATING, 8}, {"slopes", FLOATING, 8}, {"scales", FLOATING, 8}, {"shifts", FLOATING, 8},
};

typedef struct {
    PyObject_HEAD
    Py_buffer arrays[N_ARRAYS];
    int n_held;
    Py_ssize_t n_trees, word, stride, n_columns, n_maps, n_ids;
    double *tile_leaves; /* NULL: pairs are scored one by one */
    char in_tiles;
} Kernel;

#define ARRAY(k, type, which) ((const type *)(k)->arrays[which].buf)
#define COUNT(k, which) COUNT_OF((k)->arrays[which])

/* The code of a hash, NaN where the model does not know it. */
static float code_of(const Kernel *k, Py_ssize_t map, uint32_t hash) {
    const uint32_t *keys = ARRAY(k, uint32_t, KEYS);
    Py_ssize_t low = ARRAY(k, int64_t, KEY_START)[map], end = ARRAY(k, int64_t, KEY_START)[map + 1], high = end;
    while (low < high) {
        Py_ssize_t middle = low + ((high - low) >> 1);
        if (keys[middle] < hash) low = middle + 1;
        else high = middle;
    }
    return low < end && keys[low] == hash ? ARRAY(k, float, CODES)[low] : NAN;
}

#define DEFINE_FOR_WORD(WORD, CTZ)                                                                                     \
    /* ANDs the masks of one value into `mask` (n_trees). */                                                           \
    static void apply_##WORD(const Kernel *k, Py_ssize_t column, float value, WORD *restrict mask) {                   \
        const int64_t *starts = ARRAY(k, int64_t, COLUMN_START), *first_row = ARRAY(k, int64_t, COLUMN_ROW);           \
        Py_ssize_t start = starts[column], n_tests = starts[column + 1] - start, n_trees = k->n_trees;                 \
        if (n_tests == 0) return;                                                                                      \
        Py_ssize_t failed = 0, row = first_row[column + 1] - 1;                                                        \
        if (!isnan(value)) {                                                                                           \
            failed = cuts_below(ARRAY(k, double, CUTS) + start, n_tests, value);                                       \
            row = first_row[column] + failed / k->stride;                                                              \
        }                                                                                                              \
        const WORD *restrict done = ARRAY(k, WORD, ROWS) + row * n_trees;                                              \
        for (Py_ssize_t t = 0; t < n_trees; t++) mask[t] &= done[t];                                                   \
        const int32_t *tree = ARRAY(k, int32_t, TEST_TREE) + start;                                                    \
        const WORD *test = ARRAY(k, WORD, TEST_MASK) + start;                                                          \
        for (Py_ssize_t i = failed - failed % k->stride; i < failed; i++) mask[tree[i]] &= test[i];                    \
    }                                                                                                                  \
                                                                                                                       \
    static void masks_##WORD(const Kernel *k, const SideRows *side) {                                                  \
        const float *floats = side->floats.buf;                                                                        \
        const uint32_t *ids = side->ids.buf;                                                                           \
        WORD *mask = side->out.buf;                                                                                    \
        const Py_ssize_t n_floats = side->floats.shape[1], n_ids = side->ids.shape[1];                                 \
        for (Py_ssize_t i = 0; i < side->m; i++, mask += k->n_trees) {                                                 \
            for (Py_ssize_t j = 0; j < n_floats; j++) apply_##WORD(k, side->first_float + j, *floats++, mask);         \
            for (Py_ssize_t j = 0; j < n_ids; j++, ids++) {                                                            \
                int64_t map = ARRAY(k, int64_t, CODE_COLUMN)[side->first_id + j];                                      \
                if (map >= 0) apply_##WORD(k, k->n_columns - k->n_maps + map, code_of(k, map, *ids), mask);            \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    /* The sum of the exit leaves. Four sums run side by side, or each addition would wait for the last. */            \
    static double leaf_sum_##WORD(const Kernel *k, const WORD *restrict a, const WORD *restrict b) {                   \
        const double *restrict leaves = ARRAY(k, double, LEAVES);                                                      \
        const Py_ssize_t width = 8 * sizeof(WORD), n_trees = k->n_trees;                                               \
        double sums[4] = {0, 0, 0, 0};                                                                                 \
        Py_ssize_t t = 0;                                                                                              \
        for (; t + 4 <= n_trees; t += 4, leaves += 4 * width) {                                                        \
            sums[0] += leaves[CTZ(a[t] & b[t])];                                                                       \
            sums[1] += leaves[width + CTZ(a[t + 1] & b[t + 1])];                                                       \
            sums[2] += leaves[2 * width + CTZ(a[t + 2] & b[t + 2])];                                                   \
            sums[3] += leaves[3 * width + CTZ(a[t + 3] & b[t + 3])];                                                   \
        }                                                                                                              \
        for (; t < n_trees; t++, leaves += width) sums[0] += leaves[CTZ(a[t] & b[t])];                                 \
        return (sums[0] + sums[1]) + (sums[2] + sums[3]);                                                              \
    }

/* No bit left means damaged masks; the answer is then wrong, but no memory is read that is not ours. */
#define CTZ32(x) ((x) ? __builtin_ctz(x) : 0)
#define CTZ64(x) ((x) ? __builtin_ctzll(x) : 0)
DEFINE_FOR_WORD(uint32_t, CTZ32)
DEFINE_FOR_WORD(uint64_t, CTZ64)

static int check_tables(Kernel *k) {
    const int64_t *starts = ARRAY(k, int64_t, COLUMN_START), *rows = ARRAY(k, int64_t, COLUMN_ROW);
    const int64_t *keys = ARRAY(k, int64_t, KEY_START), *maps = ARRAY(k, int64_t, CODE_COLUMN);
    Py_ssize_t n_tests = COUNT(k, CUTS), n_maps = COUNT(k, KEY_START) - 1;
    k->n_maps = n_maps;
    k->n_columns = COUNT(k, COLUMN_START) - 1;
    k->n_ids = COUNT(k, CODE_COLUMN);
    if (k->n_columns < 0 || n_maps < 0 || n_maps > k->n_columns || COUNT(k, COLUMN_ROW) != k->n_columns + 1 ||
        COUNT(k, TEST_TREE) != n_tests || COUNT(k, TEST_MASK) != n_tests || COUNT(k, CODES) != COUNT(k, KEYS) ||
        COUNT(k, LEAVES) != k->n_trees * 8 * k->word || !is_calibrator(&k->arrays[KNOTS]))
        return refused("the tables of the trees do not fit each other");
    if (starts[0] != 0 || starts[k->n_columns] != n_tests || rows[0] != 0 || keys[0] != 0 ||
        keys[n_maps] != COUNT(k, KEYS))
        return refused("the tables of the trees end elsewhere than they say");
    for (Py_ssize_t c = 0; c < k->n_columns; c++) {
        if (starts[c + 1] < starts[c] || starts[c + 1] > n_tests) return refused("a column's tests end elsewhere");
        int64_t n = starts[c + 1] - starts[c];
        if (rows[c + 1] != rows[c] + (n ? n / k->stride + 2 : 0))
            return refused("a column of the trees has rows that do not fit its tests");
    }
    if (rows[k->n_columns] * k->n_trees != COUNT(k, ROWS)) return refused("the rows are not one word per tree");
    for (Py_ssize_t i = 0; i < n_tests; i++)
        if (ARRAY(k, int32_t, TEST_TREE)[i] < 0 || ARRAY(k, int32_t, TEST_TREE)[i] >= k->n_trees)
            return refused("a test speaks of a tree that does not exist");
    for (Py_ssize_t i = 0; i < n_maps; i++)
        if (keys[i + 1] < keys[i]) return refused("the keys of a code map end before they begin");
    for (Py_ssize_t i = 0; i < k->n_ids; i++)
        if (maps[i] >= n_maps) return refused("a column of hashes has a code map that does not exist");
    return 0;
}

static void kernel_dealloc(Kernel *k) {
    while (k->n_held) PyBuffer_Release(&k->arrays[--k->n_held]);
    free(k->tile_leaves);
    PyTypeObject *type = Py_TYPE(k);
    type->tp_free((PyObject *)k);
    Py_DECREF(type);
}

static PyObject *kernel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *given[N_ARRAYS];
    Py_ssize_t stride;
    int in_tiles;
    if (kwargs && PyDict_GET_SIZE(kwargs)) return PyErr_Format(PyExc_TypeError, "TreeKernel takes no keywords");
    if (!PyArg_ParseTuple(args, "pnOOOOOOOOOOOOOOOO", &in_tiles, &stride, &given[0], &given[1], &given[2], &given[3],
                          &given[4], &given[5], &given[6], &given[7], &given[8], &given[9], &given[10], &given[11],
                          &given[12], &given[13], &given[14], &given[15]))
        return NULL;
    Kernel *k = (Kernel *)type->tp_alloc(type, 0);
    if (!k) return NULL;
    for (; k->n_held < N_ARRAYS; k->n_held++)
        if (hold(given[k->n_held], &k->arrays[k->n_held], ARRAYS[k->n_held].kind, 0)) goto failed;
    k->stride = stride;
    k->word = k->arrays[TEST_MASK].itemsize;
    for (int i = 0; i < N_ARRAYS; i++)
        if (k->arrays[i].itemsize != (ARRAYS[i].item ? ARRAYS[i].item : k->word)) {
            PyErr_Format(PyExc_ValueError, "%s has values of %zd bytes", ARRAYS[i].name, k->arrays[i].itemsize);
            goto failed;
        }
    if ((k->word != 4 && k->word != 8) || stride < 1) {
        refused("masks are words of 4 or 8 bytes, and the stride is at least 1");
        goto failed;
    }
    k->n_trees = COUNT(k, LEAVES) / (8 * k->word);
    if (check_tables(k)) goto failed;
    if (in_tiles && has_tiles()) k->tile_leaves = tile_leaves(ARRAY(k, double, LEAVES), k->n_trees, 8 * k->word);
    k->in_tiles = k->tile_leaves != NULL;
    return (PyObject *)k;
failed:
    Py_DECREF(k);
    return NULL;
}

static PyObject *kernel_partial(Kernel *k, PyObject *const *args, Py_ssize_t n_args) {
    SideRows side;
    if (hold_side(&side, args, n_args, UNSIGNED, k->word, k->n_trees, k->n_columns - k->n_maps, k->n_ids)) return NULL;
    PyThreadState *state = side.m > MOST_ROWS_OF_A_REQUEST ? PyEval_SaveThread() : NULL;
    if (k->word == 4) masks_uint32_t(k, &side);
    else masks_uint64_t(k, &side);
    if (state) PyEval_RestoreThread(state);
    release_side(&side);
    Py_RETURN_NONE;
}

#define DEFINE_SCORE(WORD)                                                                                             \
    static void score_##WORD(const Kernel *k, const Pairs *pairs, Py_ssize_t first) {                                  \
        const Py_ssize_t step = pairs->shared.shape[0] == 1 ? 0 : k->n_trees;                                          \
        const WORD *shared = (const WORD *)pairs->shared.buf + first * step;                                           \
        for (Py_ssize_t i = first; i < pairs->n; i++, shared += step) {                                                \
            if (i + 1 < pairs->n) prefetch_ad_part(pairs, i + 1);                                                      \
            answer_pair(pairs, i, leaf_sum_##WORD(k, shared, ad_part(pairs, i)));                                      \
        }                                                                                                              \
    }
DEFINE_SCORE(uint32_t)
DEFINE_SCORE(uint64_t)

static PyObject *kernel_score(Kernel *k, PyObject *const *args, Py_ssize_t n_args) {
    Pairs pairs;
    if (hold_pairs(&pairs, args, n_args, UNSIGNED, k->word, k->n_trees, &k->arrays[KNOTS])) return NULL;
    Py_ssize_t done = k->tile_leaves ? score_tiles(k->tile_leaves, k->n_trees, k->word, &pairs) : 0;
    if (k->word == 4) score_uint32_t(k, &pairs, done);
    else score_uint64_t(k, &pairs, done);
    release_pairs(&pairs);
    Py_RETURN_NONE;
}

static PyMethodDef KERNEL_METHODS[] = {
    {"partial", (PyCFunction)(void (*)(void))kernel_partial, METH_FASTCALL, "ANDs the masks of one side's rows into out."},
    {"score", (PyCFunction)(void (*)(void))kernel_score, METH_FASTCALL, "Sums the exit leaves of n pairs."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef KERNEL_MEMBERS[] = {
    {"in_tiles", T_BOOL, offsetof(Kernel, in_tiles), READONLY, "Whether several pairs are scored at a time."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot KERNEL_SLOTS[] = {
    {Py_tp_new, kernel_new}, {Py_tp_dealloc, kernel_dealloc}, {Py_tp_methods, KERNEL_METHODS},
    {Py_tp_members, KERNEL_MEMBERS},
    {Py_tp_doc, "Tree tables ready to score; see models/plans/kernel.py."}, {0, NULL},
};

static PyType_Spec KERNEL_SPEC = {"models.plans._trees.TreeKernel", sizeof(Kernel), 0, Py_TPFLAGS_DEFAULT, KERNEL_SLOTS};

static int module_exec(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &KERNEL_SPEC, NULL);
    if (!type) return -1;
    int failed = PyModule_AddObjectRef(module, "TreeKernel", type) || PyModule_AddIntConstant(module, "SIGNATURE", 2);
    Py_DECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot MODULE_SLOTS[] = {{Py_mod_exec, module_exec}, {0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_trees", "Compiled kernel of factorised trees.", 0, NULL,
                                    MODULE_SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__trees(void) { return PyModuleDef_Init(&MODULE); }

/* How well the ads of one request are known: the compiled twin of `_survey` in `item_survey.py`.
 *
 * survey(rows, split, base_time, base_found, delta_time, delta_found, ttl_ms, now_ms, out)
 *   rows (n,) int64; row r is base[r] below `split`, else delta[r - split]; times (m, V) int64, found (m, V) bool
 *   ttl_ms (V,) int64; out (V, 3) int64, written: rows missing, rows stale, oldest event time (LATEST where none)
 * Arrays come through the buffer protocol; every row number is checked before use.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

enum { ROWS, BASE_TIME, BASE_FOUND, DELTA_TIME, DELTA_FOUND, TTL, OUT, N_ARRAYS };

static const struct { int argument, n_dimensions, item_bytes, writable; } WANTED[N_ARRAYS] = {
    {0, 1, 8, 0}, {2, 2, 8, 0}, {3, 2, 1, 0}, {4, 2, 8, 0}, {5, 2, 1, 0}, {6, 1, 8, 0}, {8, 2, 8, 1},
};

static int fit(const Py_buffer *views, int64_t split) {
    const Py_ssize_t v = views[TTL].shape[0];
    for (int i = 0; i < N_ARRAYS; i++)
        if (views[i].ndim == 2 && views[i].shape[1] != (i == OUT ? 3 : v)) return 0;
    if (views[OUT].shape[0] != v || views[BASE_FOUND].shape[0] != views[BASE_TIME].shape[0] ||
        views[DELTA_FOUND].shape[0] != views[DELTA_TIME].shape[0] || split < 0 || split > views[BASE_TIME].shape[0])
        return 0;
    const int64_t *rows = views[ROWS].buf, end = split + views[DELTA_TIME].shape[0];
    for (Py_ssize_t i = 0; i < views[ROWS].shape[0]; i++)
        if (rows[i] < 0 || rows[i] >= end) return 0;
    return 1;
}

static void survey_rows(const Py_buffer *views, int64_t split, int64_t now_ms) {
    const int64_t *rows = views[ROWS].buf, *ttl_ms = views[TTL].buf;
    int64_t *out = views[OUT].buf;
    const Py_ssize_t n = views[ROWS].shape[0], n_views = views[TTL].shape[0];
    for (Py_ssize_t v = 0; v < n_views; v++, out += 3) {
        int64_t missing = 0, stale = 0, oldest = INT64_MAX;
        for (Py_ssize_t i = 0; i < n; i++) {
            const int in_base = rows[i] < split;
            const int64_t at = (in_base ? rows[i] : rows[i] - split) * n_views + v;
            const char found = ((const char *)views[in_base ? BASE_FOUND : DELTA_FOUND].buf)[at];
            const int64_t time_ms = ((const int64_t *)views[in_base ? BASE_TIME : DELTA_TIME].buf)[at];
            missing += !found;
            if (!found) continue;
            stale += time_ms <= now_ms - ttl_ms[v];
            oldest = time_ms < oldest ? time_ms : oldest;
        }
        out[0] = missing;
        out[1] = stale;
        out[2] = oldest;
    }
}

static PyObject *survey(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args) {
    if (n_args != 9) return PyErr_Format(PyExc_TypeError, "survey takes 9 arguments, got %zd", n_args);
    const int64_t split = PyLong_AsLongLong(args[1]), now_ms = PyLong_AsLongLong(args[7]);
    if (PyErr_Occurred()) return NULL;
    Py_buffer views[N_ARRAYS];
    PyObject *answer = NULL;
    int held = 0;
    for (; held < N_ARRAYS; held++) {
        const int flags = WANTED[held].writable ? PyBUF_CONTIG : PyBUF_CONTIG_RO;
        if (PyObject_GetBuffer(args[WANTED[held].argument], &views[held], flags | PyBUF_FORMAT)) goto release;
        if (views[held].ndim != WANTED[held].n_dimensions || views[held].itemsize != WANTED[held].item_bytes) {
            PyErr_Format(PyExc_ValueError, "survey: argument %d has the wrong shape or type", WANTED[held].argument + 1);
            held++;
            goto release;
        }
    }
    if (!fit(views, split)) {
        PyErr_SetString(PyExc_ValueError, "survey: arguments do not fit each other, or a row does not exist");
        goto release;
    }
    survey_rows(views, split, now_ms);
    answer = Py_NewRef(Py_None);
release:
    while (held) PyBuffer_Release(&views[--held]);
    return answer;
}

static PyMethodDef METHODS[] = {
    {"survey", (PyCFunction)(void (*)(void))survey, METH_FASTCALL, "Counts missing and stale rows of each view."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot MODULE_SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_item_survey", "Surveys rows of ads.", 0, METHODS,
                                    MODULE_SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__item_survey(void) { return PyModuleDef_Init(&MODULE); }

/* The results of a ranking as JSON: the compiled twin of `_results` in `results_json.py`.
 *
 * results(ids, order, p_click, scores, own_codes) -> bytes
 *   ids: list of n str, ids that passed `entity_id`; order: (k,) int64 places in it, best first
 *   p_click: (m,) float64 for the first m places, null for the others; scores: the same, or None where there are none
 *   own_codes: dict from places to lists of codes, which are plain words
 *
 * Numbers have 12 significant digits: a millionth of a millionth of their size, and what no calibration can tell apart.
 * The library's shortest exact form costs ten times as much as the whole remaining answer.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { DIGITS = 12, LONGEST_NUMBER = 32, FIXED_BYTES = 2 * LONGEST_NUMBER + 32 };

static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

typedef struct {
    char *bytes;
    size_t used, room;
} Text;

static int has_room(Text *text, size_t more) {
    if (text->room - text->used >= more) return 1;
    size_t room = 2 * text->room + more;
    char *bytes = PyMem_Realloc(text->bytes, room);
    if (!bytes) {
        PyErr_NoMemory();
        return 0;
    }
    text->bytes = bytes;
    text->room = room;
    return 1;
}

static void add(Text *text, const char *bytes, size_t size) {
    memcpy(text->bytes + text->used, bytes, size);
    text->used += size;
}

#define ADD(text, literal) add(text, literal, sizeof(literal) - 1)

/* Any finite number, slowly. */
static int add_any_number(Text *text, double value) {
    char *shown = PyOS_double_to_string(value, 'g', DIGITS, 0, NULL);
    if (!shown) {
        PyErr_NoMemory();
        return 0;
    }
    add(text, shown, strlen(shown));
    PyMem_Free(shown);
    return 1;
}

/* Numbers from 1e-10 to 1: `0.` , zeros and twelve digits, without the zeros at the end. */
static int add_number(Text *text, double value) {
    if (!(value >= 1e-10 && value < 1)) return add_any_number(text, value);
    int zeros = 0;
    while (value * POWERS[zeros + 1] < 1) zeros++;
    uint64_t digits = (uint64_t)(value * POWERS[zeros + DIGITS] + 0.5);
    if (digits >= 1000000000000u) { /* rounded up into the next power of ten */
        if (zeros == 0) return add_any_number(text, value);
        zeros--;
        digits /= 10;
    }
    int n = DIGITS;
    for (; digits % 10 == 0; digits /= 10) n--;
    char *at = text->bytes + text->used;
    memcpy(at, "0.0000000000", 12);
    text->used += 2 + (size_t)zeros + (size_t)n;
    for (at += 2 + zeros + n; n > 0; n--, digits /= 10) *--at = (char)('0' + digits % 10);
    return 1;
}

/* An id between quotation marks; of what JSON escapes it can hold only these two. */
static int add_id(Text *text, PyObject *id) {
    Py_ssize_t size;
    const char *bytes = PyUnicode_AsUTF8AndSize(id, &size);
    if (!bytes || !has_room(text, 2 * (size_t)size + FIXED_BYTES)) return 0;
    ADD(text, "{\"ad_id\":\"");
    if (!memchr(bytes, '"', (size_t)size) && !memchr(bytes, '\\', (size_t)size)) add(text, bytes, (size_t)size);
    else
        for (Py_ssize_t i = 0; i < size; i++) {
            if (bytes[i] == '"' || bytes[i] == '\\') ADD(text, "\\");
            add(text, bytes + i, 1);
        }
    ADD(text, "\"");
    return 1;
}

/* The codes of one place, where it has any: `,"degraded":["ad_missing"]`. */
static int add_codes(Text *text, PyObject *own_codes, int64_t place) {
    PyObject *key = PyLong_FromLongLong(place);
    if (!key) return 0;
    PyObject *codes = PyDict_GetItemWithError(own_codes, key);
    Py_DECREF(key);
    if (!codes) return !PyErr_Occurred();
    if (!PyList_CheckExact(codes)) {
        PyErr_SetString(PyExc_TypeError, "results: the codes of a place are a list");
        return 0;
    }
    ADD(text, ",\"degraded\":[");
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(codes); i++) {
        Py_ssize_t size;
        const char *code = PyUnicode_AsUTF8AndSize(PyList_GET_ITEM(codes, i), &size);
        if (!code || !has_room(text, (size_t)size + FIXED_BYTES)) return 0;
        if (i) ADD(text, ",");
        ADD(text, "\"");
        add(text, code, (size_t)size);
        ADD(text, "\"");
    }
    ADD(text, "]");
    return 1;
}

static int add_result(Text *text, PyObject *id, int64_t place, const Py_buffer *p_click, const Py_buffer *scores,
                      PyObject *own_codes) {
    if (!add_id(text, id)) return 0;
    const int is_scored = place < p_click->shape[0];
    ADD(text, ",\"p_click\":");
    if (!is_scored) ADD(text, "null");
    else if (!add_number(text, ((const double *)p_click->buf)[place])) return 0;
    if (scores->obj) {
        ADD(text, ",\"score\":");
        if (!is_scored) ADD(text, "null");
        else if (!add_number(text, ((const double *)scores->buf)[place])) return 0;
    }
    if (PyDict_GET_SIZE(own_codes) && !add_codes(text, own_codes, place)) return 0;
    ADD(text, "},");
    return 1;
}

static int is_column(const Py_buffer *view) { return view->ndim == 1 && view->itemsize == 8; }

static PyObject *results(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args) {
    if (n_args != 5 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[4]))
        return PyErr_Format(PyExc_TypeError, "results takes a list of ids, order, p_click, scores and a dict of codes");
    Py_buffer order = {0}, p_click = {0}, scores = {0};
    Text text = {NULL, 0, 0};
    PyObject *answer = NULL;
    const int flags = PyBUF_CONTIG_RO | PyBUF_FORMAT;
    if (PyObject_GetBuffer(args[1], &order, flags) || PyObject_GetBuffer(args[2], &p_click, flags) ||
        (args[3] != Py_None && PyObject_GetBuffer(args[3], &scores, flags)))
        goto release;
    if (!is_column(&order) || !is_column(&p_click) ||
        (scores.obj && (!is_column(&scores) || scores.shape[0] != p_click.shape[0]))) {
        PyErr_SetString(PyExc_ValueError, "results: order, p_click and scores are (n,) of 8 bytes");
        goto release;
    }
    if (!has_room(&text, 64 + 64 * (size_t)order.shape[0])) goto release;
    ADD(&text, "[");
    for (Py_ssize_t i = 0; i < order.shape[0]; i++) {
        const int64_t place = ((const int64_t *)order.buf)[i];
        if (place < 0 || place >= PyList_GET_SIZE(args[0])) {
            PyErr_SetString(PyExc_ValueError, "results: order names an id that does not exist");
            goto release;
        }
        if (!add_result(&text, PyList_GET_ITEM(args[0], place), place, &p_click, &scores, args[4])) goto release;
    }
    if (order.shape[0]) text.used--; /* the last comma */
    ADD(&text, "]");
    answer = PyBytes_FromStringAndSize(text.bytes, (Py_ssize_t)text.used);
release:
    PyMem_Free(text.bytes);
    PyBuffer_Release(&order);
    PyBuffer_Release(&p_click);
    PyBuffer_Release(&scores);
    return answer;
}

static PyMethodDef METHODS[] = {
    {"results", (PyCFunction)(void (*)(void))results, METH_FASTCALL, "The results of a ranking as JSON."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot MODULE_SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_results", "Encodes results.", 0, METHODS, MODULE_SLOTS,
                                    NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__results(void) { return PyModuleDef_Init(&MODULE); }

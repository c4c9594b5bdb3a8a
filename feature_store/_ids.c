/* One look at the ids of a request: are they all plain and all different? The compiled twin of `_plain_and_distinct`.
 *
 * "Plain" is ASCII text that `entity_id` would answer unchanged. Anything else is answered "no" and judged by the slow,
 * exact rules in `ids.py`; so "no" costs time, never a wrong answer. Ids may be chosen to collide in the table of
 * hashes: after a bounded number of steps the answer is "no" as well.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { MAX_BYTES = 64, MAX_IDS = 1024, SLOTS = 4096, STEPS_PER_ID = 16 };

/* Visible ASCII without braces. */
static int is_plain(const unsigned char *text, Py_ssize_t size) {
    if (size < 1 || size > MAX_BYTES) return 0;
    unsigned char bad = 0;
    for (Py_ssize_t i = 0; i < size; i++) bad |= (text[i] < '!') | (text[i] > '~') | (text[i] == '{') | (text[i] == '}');
    return !bad;
}

static uint64_t hash_of(const unsigned char *text, Py_ssize_t size) {
    uint64_t hash = (uint64_t)size, word;
    for (; size >= 8; text += 8, size -= 8) {
        memcpy(&word, text, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, text, (size_t)size);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

/* plain_and_distinct(ids: list) -> bool */
static PyObject *plain_and_distinct(PyObject *Py_UNUSED(module), PyObject *ids) {
    if (!PyList_CheckExact(ids)) return PyErr_Format(PyExc_TypeError, "ids must be a list");
    const Py_ssize_t n = PyList_GET_SIZE(ids);
    if (n > MAX_IDS) Py_RETURN_FALSE;
    uint16_t slots[SLOTS] = {0}; /* number of the id in the slot, from 1 */
    Py_ssize_t steps = n * STEPS_PER_ID;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *id = PyList_GET_ITEM(ids, i);
        if (!PyUnicode_CheckExact(id) || !PyUnicode_IS_COMPACT_ASCII(id)) Py_RETURN_FALSE;
        const Py_ssize_t size = PyUnicode_GET_LENGTH(id);
        const unsigned char *text = PyUnicode_1BYTE_DATA(id);
        if (!is_plain(text, size)) Py_RETURN_FALSE;
        uint64_t at = hash_of(text, size) % SLOTS;
        for (; slots[at]; at = (at + 1) % SLOTS) {
            PyObject *other = PyList_GET_ITEM(ids, slots[at] - 1);
            if (PyUnicode_GET_LENGTH(other) == size && memcmp(PyUnicode_1BYTE_DATA(other), text, (size_t)size) == 0)
                Py_RETURN_FALSE;
            if (--steps < 0) Py_RETURN_FALSE;
        }
        slots[at] = (uint16_t)(i + 1);
    }
    Py_RETURN_TRUE;
}

static PyMethodDef METHODS[] = {
    {"plain_and_distinct", plain_and_distinct, METH_O, "Whether all ids are plain ASCII ids and all different."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot MODULE_SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_ids", "Checks ids.", 0, METHODS, MODULE_SLOTS, NULL, NULL,
                                    NULL};

PyMODINIT_FUNC PyInit__ids(void) { return PyModuleDef_Init(&MODULE); }

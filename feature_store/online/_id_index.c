/* Which row belongs to which id: an open-addressing hash table that lies in three plain arrays.
 *
 * The arrays come through the buffer protocol, so they may be memory-mapped files that several processes share:
 *   slots    uint64, a power of two and at least twice the rows; 0 is empty, else high half of the hash << 32 | row + 1
 *   offsets  uint32, rows + 1 of them: id i is blob[offsets[i] : offsets[i + 1]]
 *   blob     all ids, UTF-8, end to end
 * An id begins at slot hash & (n_slots - 1) and walks on until it is found or a slot is empty. The hash is XXH64 with
 * seed 0, so that `id_index.py` can build and check the same bytes with the xxhash package.
 *
 * A look-up would wait for memory three times (slot, offset, text). Ids are therefore taken in blocks, one stage at a
 * time for the whole block, and each stage asks for the memory of the next: the waits of a block overlap.
 * Every row and offset that is read is checked before use: damaged arrays raise ValueError, they never crash.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)(address))
#endif

enum { BLOCK_IDS = 32 };

/* ---- XXH64, seed 0 (Y. Collet, github.com/Cyan4973/xxHash, doc/xxhash_spec.md) ---- */

static const uint64_t P1 = 0x9E3779B185EBCA87u, P2 = 0xC2B2AE3D27D4EB4Fu, P3 = 0x165667B19E3779F9u,
                      P4 = 0x85EBCA77C2B2AE63u, P5 = 0x27D4EB2F165667C5u;

static inline uint64_t rotate(uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); }

static inline uint64_t little_endian(const unsigned char *at, int n_bytes)
{
    uint64_t value = 0;
    for (int i = n_bytes - 1; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

static inline uint64_t mixed(uint64_t lane, uint64_t input) { return rotate(lane + input * P2, 31) * P1; }

static inline uint64_t merged(uint64_t hash, uint64_t lane) { return (hash ^ mixed(0, lane)) * P1 + P4; }

static uint64_t xxh64(const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + size;
    uint64_t hash = P5;
    if (size >= 32) {
        uint64_t a = P1 + P2, b = P2, c = 0, d = 0 - P1;
        for (; end - at >= 32; at += 32) {
            a = mixed(a, little_endian(at, 8));
            b = mixed(b, little_endian(at + 8, 8));
            c = mixed(c, little_endian(at + 16, 8));
            d = mixed(d, little_endian(at + 24, 8));
        }
        hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
        hash = merged(merged(merged(merged(hash, a), b), c), d);
    }
    hash += size;
    for (; end - at >= 8; at += 8)
        hash = rotate(hash ^ mixed(0, little_endian(at, 8)), 27) * P1 + P4;
    if (end - at >= 4) {
        hash = rotate(hash ^ little_endian(at, 4) * P1, 23) * P2 + P3;
        at += 4;
    }
    for (; at < end; at++)
        hash = rotate(hash ^ *at * P5, 11) * P1;
    hash = (hash ^ hash >> 33) * P2;
    hash = (hash ^ hash >> 29) * P3;
    return hash ^ hash >> 32;
}

/* ---- the table ---- */

typedef struct {
    const uint64_t *slots;
    uint64_t n_slots;
    const uint32_t *offsets;
    uint64_t n_rows;
    const char *blob;
    uint64_t blob_bytes;
} Index;

typedef struct {
    const char *text;
    size_t size;
    uint64_t hash;
    uint64_t step; /* slots passed since the first */
    int64_t row;   /* NO_ROW, or a row whose half hash is equal */
} Wanted;

enum { NO_ROW = -1 };

/* Arrays of the right sizes for each other; sets an exception and returns 0 where they are not. */
static int checked_index(Index *index, const Py_buffer *slots, const Py_buffer *offsets, const Py_buffer *blob)
{
    index->slots = slots->buf;
    index->n_slots = (uint64_t)slots->len / sizeof(uint64_t);
    index->offsets = offsets->buf;
    index->n_rows = (uint64_t)offsets->len / sizeof(uint32_t) - 1;
    index->blob = blob->buf;
    index->blob_bytes = (uint64_t)blob->len;
    if (slots->len % sizeof(uint64_t) || (uintptr_t)slots->buf % sizeof(uint64_t) || index->n_slots == 0 ||
        index->n_slots & (index->n_slots - 1)) {
        PyErr_Format(PyExc_ValueError, "slots must be aligned uint64, a power of two of them; got %zd bytes", slots->len);
        return 0;
    }
    if (offsets->len < (Py_ssize_t)sizeof(uint32_t) || offsets->len % sizeof(uint32_t) ||
        (uintptr_t)offsets->buf % sizeof(uint32_t)) {
        PyErr_Format(PyExc_ValueError, "offsets must be aligned uint32, one more than rows; got %zd bytes", offsets->len);
        return 0;
    }
    if (index->n_slots < 2 * index->n_rows) {
        PyErr_Format(PyExc_ValueError, "%llu slots are too few for %llu rows; twice as many are needed",
                     (unsigned long long)index->n_slots, (unsigned long long)index->n_rows);
        return 0;
    }
    return 1;
}

/* Walks on from the wanted id's present slot to one with its half hash. Returns 0 where the array is damaged. */
static int next_row(const Index *index, Wanted *wanted)
{
    const uint64_t mask = index->n_slots - 1, half = wanted->hash >> 32;
    for (; wanted->step < index->n_slots; wanted->step++) {
        uint64_t slot = index->slots[(wanted->hash + wanted->step) & mask];
        if (slot == 0)
            break;
        if (slot >> 32 == half) {
            uint64_t row = (slot & 0xFFFFFFFFu) - 1;
            wanted->row = (int64_t)row;
            return row < index->n_rows;
        }
    }
    wanted->row = NO_ROW;
    return 1;
}

/* Whether the wanted id is that of its row; -1 where the offsets are damaged. */
static int is_same_id(const Index *index, const Wanted *wanted)
{
    uint64_t start = index->offsets[wanted->row], end = index->offsets[wanted->row + 1];
    if (start > end || end > index->blob_bytes)
        return -1;
    return end - start == wanted->size && memcmp(index->blob + start, wanted->text, wanted->size) == 0;
}

/* Fills in the UTF-8 of each id and asks for its slot. Text that has no UTF-8 (a lone surrogate) gets none: no id is
 * like it. Returns 0 with an exception set where something is not text. */
static int take_block(const Index *index, PyObject **ids, Py_ssize_t n, Wanted *block)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_ssize_t size = 0;
        if (!PyUnicode_Check(ids[i])) {
            PyErr_Format(PyExc_TypeError, "ids must be text, got %.100s", Py_TYPE(ids[i])->tp_name);
            return 0;
        }
        block[i].text = PyUnicode_AsUTF8AndSize(ids[i], &size);
        if (block[i].text == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
                return 0;
            PyErr_Clear();
            continue;
        }
        block[i].size = (size_t)size;
        block[i].hash = xxh64(block[i].text, block[i].size);
        block[i].step = 0;
        PREFETCH(&index->slots[block[i].hash & (index->n_slots - 1)]);
    }
    return 1;
}

/* Rows of one block; returns how many are unknown, -1 where the arrays are damaged. */
static Py_ssize_t find_block(const Index *index, Wanted *block, Py_ssize_t n, int64_t unknown, int64_t *rows)
{
    Py_ssize_t n_unknown = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        block[i].row = NO_ROW;
        if (block[i].text != NULL && !next_row(index, &block[i]))
            return -1;
        if (block[i].row != NO_ROW)
            PREFETCH(&index->offsets[block[i].row]);
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (block[i].row != NO_ROW && index->offsets[block[i].row] < index->blob_bytes)
            PREFETCH(index->blob + index->offsets[block[i].row]);
    for (Py_ssize_t i = 0; i < n; i++) {
        while (block[i].row != NO_ROW) {
            int same = is_same_id(index, &block[i]);
            if (same < 0)
                return -1;
            if (same)
                break;
            block[i].step++;
            if (!next_row(index, &block[i]))
                return -1;
        }
        n_unknown += block[i].row == NO_ROW;
        rows[i] = block[i].row == NO_ROW ? unknown : block[i].row;
    }
    return n_unknown;
}

static Py_ssize_t find_all(const Index *index, PyObject **ids, Py_ssize_t n, int64_t unknown, int64_t *rows)
{
    Wanted block[BLOCK_IDS];
    Py_ssize_t n_unknown = 0;
    for (Py_ssize_t start = 0; start < n; start += BLOCK_IDS) {
        Py_ssize_t size = n - start < BLOCK_IDS ? n - start : BLOCK_IDS;
        if (!take_block(index, ids + start, size, block))
            return -1;
        Py_ssize_t missed = find_block(index, block, size, unknown, rows + start);
        if (missed < 0) {
            PyErr_SetString(PyExc_ValueError, "the id index is damaged: it names a row or a text that is not there");
            return -1;
        }
        n_unknown += missed;
    }
    return n_unknown;
}

PyDoc_STRVAR(lookup_doc, "lookup(ids, slots, offsets, blob, unknown, out)\n--\n\n"
                         "Writes the row of each id to `out` (int64), `unknown` where there is none; returns how many "
                         "are unknown.");

static PyObject *lookup(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *ids, *sequence, *answer = NULL;
    Py_buffer slots, offsets, blob, out;
    long long unknown;
    Index index;
    if (!PyArg_ParseTuple(args, "Oy*y*y*Lw*:lookup", &ids, &slots, &offsets, &blob, &unknown, &out))
        return NULL;
    sequence = PySequence_Fast(ids, "ids must be a list of text");
    if (sequence != NULL && checked_index(&index, &slots, &offsets, &blob)) {
        Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
        if (out.len != n * (Py_ssize_t)sizeof(int64_t) || (uintptr_t)out.buf % sizeof(int64_t)) {
            PyErr_Format(PyExc_ValueError, "out must be aligned int64, one for each of %zd ids; got %zd bytes", n, out.len);
        } else {
            Py_ssize_t n_unknown = find_all(&index, PySequence_Fast_ITEMS(sequence), n, unknown, out.buf);
            if (n_unknown >= 0)
                answer = PyLong_FromSsize_t(n_unknown);
        }
    }
    Py_XDECREF(sequence);
    PyBuffer_Release(&slots);
    PyBuffer_Release(&offsets);
    PyBuffer_Release(&blob);
    PyBuffer_Release(&out);
    return answer;
}

/* Puts every id into the empty slots. Returns NO_ROW, the first row whose id came before, or -2 for damaged offsets. */
static int64_t fill(const Index *index, uint64_t *slots)
{
    if (index->offsets[0] != 0 || index->offsets[index->n_rows] != index->blob_bytes)
        return -2;
    memset(slots, 0, index->n_slots * sizeof(uint64_t));
    for (uint64_t row = 0; row < index->n_rows; row++) {
        uint64_t start = index->offsets[row], end = index->offsets[row + 1];
        if (start > end || end > index->blob_bytes)
            return -2;
        Wanted wanted = {.text = index->blob + start, .size = end - start, .step = 0};
        wanted.hash = xxh64(wanted.text, wanted.size);
        for (next_row(index, &wanted); wanted.row != NO_ROW; wanted.step++, next_row(index, &wanted))
            if (is_same_id(index, &wanted) == 1)
                return (int64_t)row;
        slots[(wanted.hash + wanted.step) & (index->n_slots - 1)] = wanted.hash >> 32 << 32 | (row + 1);
    }
    return NO_ROW;
}

PyDoc_STRVAR(build_doc, "build(slots, offsets, blob)\n--\n\n"
                        "Fills `slots`; returns the first row whose id an earlier row has too, -1 for none. Lets other "
                        "threads run meanwhile.");

static PyObject *build(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *answer = NULL;
    Py_buffer slots, offsets, blob;
    Index index;
    if (!PyArg_ParseTuple(args, "w*y*y*:build", &slots, &offsets, &blob))
        return NULL;
    if (checked_index(&index, &slots, &offsets, &blob)) {
        int64_t twice;
        Py_BEGIN_ALLOW_THREADS
        twice = fill(&index, slots.buf);
        Py_END_ALLOW_THREADS
        if (twice == -2)
            PyErr_SetString(PyExc_ValueError, "offsets must rise from 0 to the size of the blob");
        else
            answer = PyLong_FromLongLong(twice);
    }
    PyBuffer_Release(&slots);
    PyBuffer_Release(&offsets);
    PyBuffer_Release(&blob);
    return answer;
}

static PyMethodDef methods[] = {
    {"lookup", lookup, METH_VARARGS, lookup_doc},
    {"build", build, METH_VARARGS, build_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef_Slot module_slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "feature_store.online._id_index",
    .m_doc = "Compiled half of feature_store/online/id_index.py.",
    .m_methods = methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__id_index(void) { return PyModuleDef_Init(&definition); }

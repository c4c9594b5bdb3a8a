/* Scores linear models for many candidates of one request: the compiled twin of `NumpyLinearKernel`.
 *
 * A linear model is a sum, so what a user, an ad and a context add to it can be added up apart, once each, and a pair
 * costs two additions and the calibrator. Terms and their formula: `LinearSpec` (models/specs.py). Arrays as in
 * `_kernel.h`; every index into a table is checked when the kernel is made.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>

#include "_kernel.h"

enum { MEAN, SPREAD, SLOPE, EDGES, BIN_WEIGHTS, ID_SIZES, ID_OFFSETS, ID_WEIGHTS, KNOTS, INTERCEPTS, SLOPES, SCALES,
       SHIFTS, N_ARRAYS };

typedef struct {
    PyObject_HEAD
    Py_buffer arrays[N_ARRAYS];
    int n_held;
    double intercept, limit;
    Py_ssize_t n_floats, n_edges, n_ids;
} Kernel;

#define ARRAY(k, type, which) ((const type *)(k)->arrays[which].buf)
#define COUNT(k, which) COUNT_OF((k)->arrays[which])

static int is_whole(int which) { return which == ID_SIZES || which == ID_OFFSETS; }

static double number_term(const Kernel *k, Py_ssize_t column, float value) {
    const double *bins = ARRAY(k, double, BIN_WEIGHTS) + column * (k->n_edges + 2);
    if (isnan(value)) return bins[0];
    double x = value, size = log(1 + fabs(x));
    double z = ((x < 0 ? -size : size) - ARRAY(k, double, MEAN)[column]) / ARRAY(k, double, SPREAD)[column];
    z = z < -k->limit ? -k->limit : z > k->limit ? k->limit : z;
    return ARRAY(k, double, SLOPE)[column] * z +
           bins[1 + cuts_below(ARRAY(k, double, EDGES) + column * k->n_edges, k->n_edges, x)];
}

static double hash_term(const Kernel *k, Py_ssize_t column, uint32_t hash) {
    int64_t within = hash % ARRAY(k, int64_t, ID_SIZES)[column];
    return ARRAY(k, double, ID_WEIGHTS)[ARRAY(k, int64_t, ID_OFFSETS)[column] + within];
}

static int check_tables(Kernel *k) {
    k->n_floats = COUNT(k, MEAN);
    k->n_ids = COUNT(k, ID_SIZES);
    k->n_edges = k->n_floats ? COUNT(k, EDGES) / k->n_floats : 0;
    for (int i = 0; i < N_ARRAYS; i++)
        if (k->arrays[i].itemsize != 8) return refused("a linear model's tables have values of 8 bytes");
    if (COUNT(k, SPREAD) != k->n_floats || COUNT(k, SLOPE) != k->n_floats ||
        COUNT(k, EDGES) != k->n_floats * k->n_edges || COUNT(k, BIN_WEIGHTS) != k->n_floats * (k->n_edges + 2) ||
        COUNT(k, ID_OFFSETS) != k->n_ids || !is_calibrator(&k->arrays[KNOTS]))
        return refused("the tables of the linear model do not fit each other");
    for (Py_ssize_t i = 0; i < k->n_ids; i++) {
        int64_t size = ARRAY(k, int64_t, ID_SIZES)[i], offset = ARRAY(k, int64_t, ID_OFFSETS)[i];
        if (size < 1 || offset < 0 || size > COUNT(k, ID_WEIGHTS) || offset > COUNT(k, ID_WEIGHTS) - size)
            return refused("a table of hashes lies outside the weights");
    }
    return 0;
}

static void kernel_dealloc(Kernel *k) {
    while (k->n_held) PyBuffer_Release(&k->arrays[--k->n_held]);
    PyTypeObject *type = Py_TYPE(k);
    type->tp_free((PyObject *)k);
    Py_DECREF(type);
}

static PyObject *kernel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *given[N_ARRAYS];
    double intercept, limit;
    if (kwargs && PyDict_GET_SIZE(kwargs)) return PyErr_Format(PyExc_TypeError, "LinearKernel takes no keywords");
    if (!PyArg_ParseTuple(args, "ddOOOOOOOOOOOOO", &intercept, &limit, &given[0], &given[1], &given[2], &given[3],
                          &given[4], &given[5], &given[6], &given[7], &given[8], &given[9], &given[10],
                          &given[11], &given[12]))
        return NULL;
    Kernel *k = (Kernel *)type->tp_alloc(type, 0);
    if (!k) return NULL;
    k->intercept = intercept;
    k->limit = limit;
    for (; k->n_held < N_ARRAYS; k->n_held++)
        if (hold(given[k->n_held], &k->arrays[k->n_held], is_whole(k->n_held) ? SIGNED : FLOATING, 0)) goto failed;
    if (check_tables(k)) goto failed;
    return (PyObject *)k;
failed:
    Py_DECREF(k);
    return NULL;
}

static PyObject *kernel_partial(Kernel *k, PyObject *const *args, Py_ssize_t n_args) {
    SideRows side;
    if (hold_side(&side, args, n_args, FLOATING, sizeof(double), 1, k->n_floats, k->n_ids)) return NULL;
    PyThreadState *state = side.m > MOST_ROWS_OF_A_REQUEST ? PyEval_SaveThread() : NULL;
    const float *floats = side.floats.buf;
    const uint32_t *ids = side.ids.buf;
    double *sums = side.out.buf;
    const Py_ssize_t n_floats = side.floats.shape[1], n_ids = side.ids.shape[1];
    for (Py_ssize_t i = 0; i < side.m; i++) {
        double sum = 0;
        for (Py_ssize_t j = 0; j < n_floats; j++) sum += number_term(k, side.first_float + j, *floats++);
        for (Py_ssize_t j = 0; j < n_ids; j++) sum += hash_term(k, side.first_id + j, *ids++);
        sums[i] += sum;
    }
    if (state) PyEval_RestoreThread(state);
    release_side(&side);
    Py_RETURN_NONE;
}

static PyObject *kernel_score(Kernel *k, PyObject *const *args, Py_ssize_t n_args) {
    Pairs pairs;
    if (hold_pairs(&pairs, args, n_args, FLOATING, sizeof(double), 1, &k->arrays[KNOTS])) return NULL;
    const double *shared = pairs.shared.buf;
    const Py_ssize_t step = pairs.shared.shape[0] == 1 ? 0 : 1;
    for (Py_ssize_t i = 0; i < pairs.n; i++, shared += step)
        answer_pair(&pairs, i, k->intercept + *shared + *(const double *)ad_part(&pairs, i));
    release_pairs(&pairs);
    Py_RETURN_NONE;
}

static PyMethodDef KERNEL_METHODS[] = {
    {"partial", (PyCFunction)(void (*)(void))kernel_partial, METH_FASTCALL, "Adds the terms of one side's rows to out."},
    {"score", (PyCFunction)(void (*)(void))kernel_score, METH_FASTCALL, "Adds up the sums of n pairs."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot KERNEL_SLOTS[] = {
    {Py_tp_new, kernel_new}, {Py_tp_dealloc, kernel_dealloc}, {Py_tp_methods, KERNEL_METHODS},
    {Py_tp_doc, "A linear model ready to score; see models/plans/kernel.py."}, {0, NULL},
};

static PyType_Spec KERNEL_SPEC = {"models.plans._linear.LinearKernel", sizeof(Kernel), 0, Py_TPFLAGS_DEFAULT,
                                  KERNEL_SLOTS};

static int module_exec(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &KERNEL_SPEC, NULL);
    if (!type) return -1;
    int failed = PyModule_AddObjectRef(module, "LinearKernel", type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot MODULE_SLOTS[] = {{Py_mod_exec, module_exec}, {0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_linear", "Compiled kernel of linear models.", 0, NULL,
                                    MODULE_SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__linear(void) { return PyModuleDef_Init(&MODULE); }

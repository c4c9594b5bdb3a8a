/* What the compiled kernels share: arguments as checked buffers, and the calibrator.
 *
 * A kernel keeps what it needs of each entity in one row of `width` values of `word` bytes: bit masks of trees, or sums
 * of weights. Methods, for every kernel (kernel.py documents them):
 *
 *     partial(floats, first_float, ids, first_id, out)            one side's m rows into out (m, width)
 *     score(shared, base, delta, split, rows, raw_logit, p_click, segments) n pairs from their rows
 */
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Larger inputs come from background threads, which must not hold the lock that the event loop needs. A request keeps
 * it: winning it back could cost more than the work. */
#define MOST_ROWS_OF_A_REQUEST 1000

#define COUNT_OF(view) ((view).len / (view).itemsize)

static int refused(const char *message) {
    PyErr_SetString(PyExc_ValueError, message);
    return -1;
}

/* Kinds of numbers, as the `struct` module writes them; how many bytes each has is checked apart. */
#define FLOATING "fd"
#define SIGNED "ilq"
#define UNSIGNED "ILQ"

/* Borrows a contiguous, aligned array of one kind of numbers in native byte order. */
static int hold(PyObject *given, Py_buffer *view, const char *kind, int writable) {
    if (PyObject_GetBuffer(given, view, writable ? PyBUF_CONTIG | PyBUF_FORMAT : PyBUF_CONTIG_RO | PyBUF_FORMAT))
        return -1;
    const char *format = view->format ? view->format : "B";
    if (*format == '@') format++;
    if (*format && !format[1] && strchr(kind, *format) && (uintptr_t)view->buf % (size_t)view->itemsize == 0) return 0;
    PyErr_Format(PyExc_ValueError, "an aligned array of kind %s is expected, got kind %s", kind, format);
    PyBuffer_Release(view);
    return -1;
}

/* A whole number; beyond 64 bits it is a ValueError like every other number that does not fit. */
static Py_ssize_t whole(PyObject *given) { return PyNumber_AsSsize_t(given, PyExc_ValueError); }

static int overlap(const Py_buffer *a, const Py_buffer *b) {
    const char *a_start = a->buf, *b_start = b->buf;
    return a_start < b_start + b->len && b_start < a_start + a->len;
}

/* Number of ascending cuts below x: how many tests `x <= cut` fail. */
static inline Py_ssize_t cuts_below(const double *cuts, Py_ssize_t n, double x) {
    Py_ssize_t low = 0;
    while (n > 0) {
        Py_ssize_t half = n >> 1;
        int below = cuts[low + half] < x;
        low += below ? half + 1 : 0;
        n = below ? n - half - 1 : half;
    }
    return low;
}

/* ---- one side's rows ---- */

typedef struct {
    Py_buffer floats, ids, out;
    Py_ssize_t m, first_float, first_id;
} SideRows;

static void release_side(SideRows *side) {
    PyBuffer_Release(&side->floats);
    PyBuffer_Release(&side->ids);
    PyBuffer_Release(&side->out);
}

static int hold_side(SideRows *side, PyObject *const *args, Py_ssize_t n_args, const char *kind, Py_ssize_t word,
                     Py_ssize_t width, Py_ssize_t n_floats, Py_ssize_t n_ids) {
    if (n_args != 5) {
        PyErr_Format(PyExc_TypeError, "partial takes 5 arguments, got %zd", n_args);
        return -1;
    }
    *side = (SideRows){.first_float = whole(args[1])};
    if (PyErr_Occurred()) return -1;
    side->first_id = whole(args[3]);
    if (PyErr_Occurred()) return -1;
    if (hold(args[0], &side->floats, FLOATING, 0) || hold(args[2], &side->ids, UNSIGNED, 0) ||
        hold(args[4], &side->out, kind, 1))
        goto failed;
    const Py_buffer *floats = &side->floats, *ids = &side->ids, *out = &side->out;
    if (floats->ndim != 2 || ids->ndim != 2 || out->ndim != 2 || floats->itemsize != 4 || ids->itemsize != 4 ||
        out->itemsize != word || out->shape[1] != width || floats->shape[0] != out->shape[0] ||
        ids->shape[0] != out->shape[0] || side->first_float < 0 || side->first_id < 0 ||
        side->first_float > n_floats - floats->shape[1] || side->first_id > n_ids - ids->shape[1]) {
        refused("partial: floats (m, f) float32, ids (m, i) uint32 and out (m, width) do not fit the model");
        goto failed;
    }
    side->m = out->shape[0];
    return 0;
failed:
    release_side(side); /* releasing a buffer that was never held does nothing */
    return -1;
}

/* ---- the calibrator: knots, intercepts, slopes, scales, shifts lie side by side in a kernel's arrays ---- */

static int is_calibrator(const Py_buffer *calibrator) {
    Py_ssize_t n = COUNT_OF(calibrator[0]), n_segments = COUNT_OF(calibrator[3]);
    return COUNT_OF(calibrator[1]) == n + 1 && COUNT_OF(calibrator[2]) == n + 1 && n_segments > 0 &&
           COUNT_OF(calibrator[4]) == n_segments;
}

/* sigmoid of the straight line between two knots, then of the segment's own line; segment 0's changes nothing. */
static inline double calibrated(const Py_buffer *calibrator, double raw_logit, int32_t segment) {
    Py_ssize_t piece = cuts_below(calibrator[0].buf, COUNT_OF(calibrator[0]), raw_logit);
    double y = ((const double *)calibrator[1].buf)[piece] + ((const double *)calibrator[2].buf)[piece] * raw_logit;
    if (segment) y = ((const double *)calibrator[3].buf)[segment] * y + ((const double *)calibrator[4].buf)[segment];
    return y >= 0 ? 1 / (1 + exp(-y)) : exp(y) / (1 + exp(y));
}

/* ---- n pairs ---- */

typedef struct {
    Py_buffer shared, base, delta, rows, raw_logit, p_click, segments;
    Py_ssize_t split, n, row_bytes, segment_step;
    const int32_t *segment; /* of the first pair; the next one's lies `segment_step` further */
    const Py_buffer *calibrator;
} Pairs;

static void release_pairs(Pairs *pairs) {
    Py_buffer *views[] = {&pairs->shared, &pairs->base, &pairs->delta, &pairs->rows, &pairs->raw_logit, &pairs->p_click,
                          &pairs->segments};
    for (int i = 0; i < 7; i++) PyBuffer_Release(views[i]);
}

static int check_pairs(const Pairs *pairs, Py_ssize_t word, Py_ssize_t width) {
    const Py_buffer *parts[] = {&pairs->shared, &pairs->base, &pairs->delta};
    for (int i = 0; i < 3; i++)
        if (parts[i]->ndim != 2 || parts[i]->itemsize != word || parts[i]->shape[1] != width)
            return refused("score: shared, base and delta are (m, width) of the model");
    const Py_buffer *columns[] = {&pairs->rows, &pairs->raw_logit, &pairs->p_click};
    for (int i = 0; i < 3; i++)
        if (columns[i]->ndim != 1 || columns[i]->itemsize != 8 || columns[i]->shape[0] != pairs->n)
            return refused("score: rows, raw_logit and p_click are (n,) of 8 bytes");
    if ((pairs->shared.shape[0] != 1 && pairs->shared.shape[0] != pairs->n) || pairs->split < 0 ||
        pairs->split > pairs->base.shape[0])
        return refused("score: shared has one row or n, and split lies within base");
    /* Rows are checked before the first answer is written, so no answer may be written over them. */
    if (overlap(&pairs->rows, &pairs->raw_logit) || overlap(&pairs->rows, &pairs->p_click))
        return refused("score: the answers would be written over the row numbers");
    const int64_t *rows = pairs->rows.buf, end = pairs->split + pairs->delta.shape[0];
    for (Py_ssize_t i = 0; i < pairs->n; i++)
        if (rows[i] < 0 || rows[i] >= end) return refused("score: a row number that does not exist");
    return 0;
}

static const int32_t NO_SEGMENT = 0;

/* Borrows the segments of the pairs: None, one, or n. */
static int hold_segments(Pairs *pairs, PyObject *given) {
    pairs->segment = &NO_SEGMENT;
    if (given == Py_None) return 0;
    if (hold(given, &pairs->segments, SIGNED, 0)) return -1;
    const Py_buffer *segments = &pairs->segments;
    if (segments->ndim != 1 || segments->itemsize != 4 || (segments->shape[0] != 1 && segments->shape[0] != pairs->n) ||
        overlap(segments, &pairs->raw_logit) || overlap(segments, &pairs->p_click))
        return refused("score: segments are (1 or n,) of 4 bytes, and no answer is written over them");
    const int32_t *segment = segments->buf;
    for (Py_ssize_t i = 0; i < segments->shape[0]; i++)
        if (segment[i] < 0 || segment[i] >= COUNT_OF(pairs->calibrator[3]))
            return refused("score: a segment that does not exist");
    pairs->segment = segment;
    pairs->segment_step = segments->shape[0] != 1;
    return 0;
}

static int hold_pairs(Pairs *pairs, PyObject *const *args, Py_ssize_t n_args, const char *kind, Py_ssize_t word,
                      Py_ssize_t width, const Py_buffer *calibrator) {
    if (n_args != 8) {
        PyErr_Format(PyExc_TypeError, "score takes 8 arguments, got %zd", n_args);
        return -1;
    }
    *pairs = (Pairs){.split = whole(args[3]), .row_bytes = word * width, .calibrator = calibrator};
    if (PyErr_Occurred()) return -1;
    if (hold(args[0], &pairs->shared, kind, 0) || hold(args[1], &pairs->base, kind, 0) ||
        hold(args[2], &pairs->delta, kind, 0) || hold(args[4], &pairs->rows, SIGNED, 0) ||
        hold(args[5], &pairs->raw_logit, FLOATING, 1) || hold(args[6], &pairs->p_click, FLOATING, 1))
        goto failed;
    pairs->n = pairs->rows.ndim == 1 ? pairs->rows.shape[0] : -1;
    if (check_pairs(pairs, word, width) || hold_segments(pairs, args[7])) goto failed;
    return 0;
failed:
    release_pairs(pairs);
    return -1;
}

/* What is kept of the i-th pair's ad. */
static inline const void *ad_part(const Pairs *pairs, Py_ssize_t i) {
    int64_t row = ((const int64_t *)pairs->rows.buf)[i];
    const Py_buffer *part = row < pairs->split ? &pairs->base : &pairs->delta;
    return (const char *)part->buf + (row < pairs->split ? row : row - pairs->split) * pairs->row_bytes;
}

/* Asks for the i-th ad's part ahead of its turn: ads of a request lie all over the table (a busy server scored 100 ads
 * and 200 trees in 22 µs instead of 25). */
static inline void prefetch_ad_part(const Pairs *pairs, Py_ssize_t i) {
#if defined(__GNUC__) || defined(__clang__)
    const char *part = ad_part(pairs, i);
    for (Py_ssize_t at = 0; at < pairs->row_bytes; at += 64) __builtin_prefetch(part + at);
#else
    (void)pairs, (void)i;
#endif
}

static inline void answer_pair(const Pairs *pairs, Py_ssize_t i, double raw_logit) {
    int32_t segment = pairs->segment[i * pairs->segment_step];
    ((double *)pairs->raw_logit.buf)[i] = raw_logit;
    ((double *)pairs->p_click.buf)[i] = calibrated(pairs->calibrator, raw_logit, segment);
}

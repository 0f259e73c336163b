/* One ConvLSTM layer with 3 x 3 kernels over all its steps, forward and backward, in single precision.
 *
 * Images are independent, so each thread takes a few through all steps, and its working set stays in its cache. The
 * convolution of state and input together is Winograd's F(4 x 4, 3 x 3) (Lavin & Gray 2016, arXiv:1509.09308) at the
 * points 0, +-sqrt(1/2), +-sqrt(2) and infinity: 36 products for 16 pixels instead of 144. Its last transform is fused
 * with the gates, and in the backward its first one with their derivatives, so that the sums before the gates are never
 * in memory. The backward stays in the transformed space: one set of products gives the gradient of state and input,
 * another adds to the gradient of the transformed weights, which are transformed back once, after the last step.
 *
 * A stride of 2 is in the input alone: its four pixels of each pixel of the state become channels, and the nine weights
 * fall on them so that at the outermost points some are zero, which `used` leaves out.
 *
 * All arrays are pixels x channels. A channel count of the state is a multiple of 8 (LANES); the caller pads with zero
 * weights, whose states stay 0. Of the gates i, f, o, g, channel 8 s + l is column 32 s + 8 gate + l.
 */
#include <stdlib.h>
#include <string.h>

#include "winograd.h"

#define SKEW 16   /* floats between planes, lest 36 planes fall on the same lines of the cache */

typedef struct {
    long steps, batch;
    long height, width;              /* of the state's images */
    long input_height, input_width;  /* of the input's: the same, or with stride 2 about twice as much */
    long inputs, hidden;             /* channels */
    long stride, reverse, threads;
    long block;                      /* tiles treated at once */
    const float *x;          /* [steps, batch, input pixel, inputs] */
    const float *weight;     /* [36, column / 16, value, 16], values: hidden, then stride^2 times inputs */
    const float *weight_t;   /* [36, column, value up to a multiple of 8]; backward only */
    const float *bias;       /* [column] */
    const float *peep;       /* [3, pixel, hidden]: of i, f, o; or null */
    const float *hidden0;    /* [batch, pixel, hidden], or null for zeros */
    const float *cell0;      /* likewise; backward only */
    float *out;              /* [steps, batch, pixel, hidden] */
    float *cell;             /* [batch, pixel, hidden]: first in, last out */
    float *cells;            /* [steps, batch, pixel, hidden], or null where there will be no backward */
    float *gates;            /* [steps, batch, pixel, column]: i, f, o, g after their functions; or null */
    const float *grad_out;   /* as out */
    float *grad_cell;        /* [batch, pixel, hidden]: of the last in, of the first out */
    float *grad_x;           /* as x, or null */
    float *grad_weight;      /* [threads] of weight's shape */
    float *grad_bias;        /* [threads, column] */
    float *grad_peep;        /* [threads, 3, pixel, hidden], or null */
    float *grad_hidden0;     /* as hidden0, or null */
} Layer;

/* Working set of a thread: `num` images from `first` on. */
typedef struct {
    const Layer *layer;
    long first, num, tiles_y, tiles_x, channels, columns, row, image, values, plane_v, plane_m;
    float *z[2];             /* padded images of state and input */
    float *v;                /* [36, block, channels] */
    float *m;                /* [36, block, column] */
    float *dv;               /* as v; backward only */
    float *bias;             /* [column]: sums of a step, for one sum over all pixels and steps would be inexact */
    float *grad_weight, *grad_bias, *grad_peep;
} Work;

/* ---- tiles ---- */
typedef struct { long image, y, x; } Tile;

INLINE Tile tile_at(const Work *w, long n) {
    const long of_image = n % (w->tiles_y * w->tiles_x);
    return (Tile){n / (w->tiles_y * w->tiles_x), of_image / w->tiles_x * TILE, of_image % w->tiles_x * TILE};
}

static void patches_to_points(const Work *w, const float *z, long start, long num) {
    for (long n = 0; n < num; n++) {
        const Tile tile = tile_at(w, start + n);
        const float *from = z + tile.image * w->image + tile.y * w->row + tile.x * w->channels;
        for (long k = 0; k < w->channels; k += LANES) {
            vec d[POINTS];
            for (int y = 0; y < PATCH; y++)
                for (int x = 0; x < PATCH; x++) d[y * PATCH + x] = load(from + y * w->row + x * w->channels + k);
            for (int x = 0; x < PATCH; x++) to_points(d + x, d + x, PATCH);
            for (int y = 0; y < PATCH; y++) to_points(d + y * PATCH, d + y * PATCH, 1);
            for (int p = 0; p < POINTS; p++) store(w->v + p * w->plane_v + n * w->channels + k, d[p]);
        }
    }
}

static void points_to_patches(const Work *w, float *dz, long start, long num) {
    const long channels = w->layer->grad_x ? w->channels : w->layer->hidden;
    for (long n = 0; n < num; n++) {
        const Tile tile = tile_at(w, start + n);
        float *to = dz + tile.image * w->image + tile.y * w->row + tile.x * w->channels;
        for (long k = 0; k < channels; k += LANES) {
            vec d[POINTS];
            for (int p = 0; p < POINTS; p++) d[p] = load(w->dv + p * w->plane_v + n * w->channels + k);
            for (int x = 0; x < PATCH; x++) to_points_t(d + x, d + x, PATCH);
            for (int y = 0; y < PATCH; y++) to_points_t(d + y * PATCH, d + y * PATCH, 1);
            for (int y = 0; y < PATCH; y++)
                for (int x = 0; x < PATCH; x++) {
                    float *pixel = to + y * w->row + x * w->channels + k;
                    store(pixel, load(pixel) + d[y * PATCH + x]);
                }
        }
    }
}

/* ---- gates ---- */
INLINE void gates_of_pixel(const Layer *l, long item, long pixel, long s, const vec *sum) {
    const long at = (item * l->height * l->width + pixel) * l->hidden + s * LANES;
    const long in_batch = at - item / l->batch * l->batch * l->height * l->width * l->hidden;
    vec i = sum[0], f = sum[1], o = sum[2], g = sum[3], c = load(l->cell + in_batch);
    const float *peep = l->peep ? l->peep + pixel * l->hidden + s * LANES : NULL;
    const float *bias = l->bias + s * 4 * LANES;
    const long size = l->height * l->width * l->hidden;
    i += load(bias), f += load(bias + LANES), o += load(bias + 2 * LANES), g += load(bias + 3 * LANES);
    if (peep) i += load(peep) * c, f += load(peep + size) * c;
    i = sigmoid(i), f = sigmoid(f), g = tanh_(g);
    c = f * c + i * g;
    if (peep) o += load(peep + 2 * size) * c;
    o = sigmoid(o);
    store(l->cell + in_batch, c);
    store(l->out + at, o * tanh_(c));
    if (l->gates) {
        float *gates = l->gates + (item * l->height * l->width + pixel) * 4 * l->hidden + s * 4 * LANES;
        store(gates, i), store(gates + LANES, f), store(gates + 2 * LANES, o), store(gates + 3 * LANES, g);
        store(l->cells + at, c);
    }
}

static void gates_forward(const Work *w, long t, long start, long num) {
    const Layer *l = w->layer;
    for (long n = 0; n < num; n++) {
        const Tile tile = tile_at(w, start + n);
        const long item = t * l->batch + w->first + tile.image;
        for (long s = 0; s < l->hidden / LANES; s++) {
            vec y[4][POINTS], sum[4];
            for (int gate = 0; gate < 4; gate++) {
                vec *d = y[gate];
                const float *m = w->m + n * w->columns + (s * 4 + gate) * LANES;
                for (int p = 0; p < POINTS; p++) d[p] = load(m + p * w->plane_m);
                for (int x = 0; x < PATCH; x++) from_points(d + x, d + x, PATCH);
                for (int row = 0; row < TILE; row++) from_points(d + row * PATCH, d + row * PATCH, 1);
            }
            for (int dy = 0; dy < TILE && tile.y + dy < l->height; dy++)
                for (int dx = 0; dx < TILE && tile.x + dx < l->width; dx++) {
                    for (int gate = 0; gate < 4; gate++) sum[gate] = y[gate][dy * PATCH + dx];
                    gates_of_pixel(l, item, (tile.y + dy) * l->width + tile.x + dx, s, sum);
                }
        }
    }
}

/* The derivatives of one pixel: of the state and the cell in, of the sums before the gates' functions out. */
INLINE void derivatives_of_pixel(const Work *w, long item, long before, long pixel, long s, vec grad_h, vec *sum) {
    const Layer *l = w->layer;
    const long size = l->height * l->width * l->hidden, lane = pixel * l->hidden + s * LANES;
    const long at = item * size + lane, in_batch = item % l->batch * size + lane;
    const float *gates = l->gates + (item * l->height * l->width + pixel) * 4 * l->hidden + s * 4 * LANES;
    const vec i = load(gates), f = load(gates + LANES), o = load(gates + 2 * LANES), g = load(gates + 3 * LANES);
    const vec tanh_c = tanh_(load(l->cells + at));
    const float *c_before = before >= 0 ? l->cells + before * size + lane : l->cell0 ? l->cell0 + in_batch : NULL;
    const vec c = c_before ? load(c_before) : all(0.0f);
    grad_h += load(l->grad_out + at);
    const vec grad_o = grad_h * tanh_c * o * (1.0f - o);
    vec grad_c = load(l->grad_cell + in_batch) + grad_h * o * (1.0f - tanh_c * tanh_c);
    if (l->peep) grad_c += grad_o * load(l->peep + 2 * size + lane);
    const vec grad_i = grad_c * g * i * (1.0f - i), grad_f = grad_c * c * f * (1.0f - f);
    const vec grad_g = grad_c * i * (1.0f - g * g);
    vec next = grad_c * f;
    if (l->peep) {
        next += grad_i * load(l->peep + lane) + grad_f * load(l->peep + size + lane);
        float *peep = w->grad_peep + lane;
        store(peep, load(peep) + grad_i * c);
        store(peep + size, load(peep + size) + grad_f * c);
        store(peep + 2 * size, load(peep + 2 * size) + grad_o * load(l->cells + at));
    }
    store(l->grad_cell + in_batch, next);
    sum[0] = grad_i, sum[1] = grad_f, sum[2] = grad_o, sum[3] = grad_g;
}

static void gates_backward(const Work *w, const float *dz, long t, long t_before, long start, long num) {
    const Layer *l = w->layer;
    for (long n = 0; n < num; n++) {
        const Tile tile = tile_at(w, start + n);
        const long item = t * l->batch + w->first + tile.image;
        const long before = t_before < 0 ? -1 : t_before * l->batch + w->first + tile.image;
        const float *grad = dz + tile.image * w->image + (tile.y + 1) * w->row + (tile.x + 1) * w->channels;
        for (long s = 0; s < l->hidden / LANES; s++) {
            vec y[4][POINTS], sum[4];
            float *bias = w->bias + s * 4 * LANES;
            vec total[4];
            for (int gate = 0; gate < 4; gate++) total[gate] = load(bias + gate * LANES);
            for (int dy = 0; dy < TILE; dy++)
                for (int dx = 0; dx < TILE; dx++) {
                    for (int gate = 0; gate < 4; gate++) sum[gate] = all(0.0f);
                    if (tile.y + dy < l->height && tile.x + dx < l->width)
                        derivatives_of_pixel(w, item, before, (tile.y + dy) * l->width + tile.x + dx, s,
                                             load(grad + dy * w->row + dx * w->channels + s * LANES), sum);
                    for (int gate = 0; gate < 4; gate++) y[gate][dy * PATCH + dx] = sum[gate], total[gate] += sum[gate];
                }
            for (int gate = 0; gate < 4; gate++) {
                vec *d = y[gate];
                float *m = w->m + n * w->columns + (s * 4 + gate) * LANES;
                store(bias + gate * LANES, total[gate]);
                for (int row = 0; row < TILE; row++) from_points_t(d + row * PATCH, d + row * PATCH, 1);
                for (int x = 0; x < PATCH; x++) from_points_t(d + x, d + x, PATCH);
                for (int p = 0; p < POINTS; p++) store(m + p * w->plane_m, d[p]);
            }
        }
    }
}

/* ---- steps ---- */
/* The four pixels of stride 2, in (y, x), in an order that makes every set of them that `used` asks for a range. */
static const int PHASES[4][2] = {{0, 0}, {0, 1}, {1, 1}, {1, 0}};

typedef struct { long start, stop; } Range;

/* The values of the input whose weights at a point are not zero. With stride 2 an odd row (column) meets the weights 0
   and 2, which are not seen at infinity; an even one the weight 1, which is not seen at 0 either. */
INLINE Range used(const Work *w, int point) {
    const long y = point / PATCH, x = point % PATCH, inputs = w->layer->inputs;
    if (w->layer->stride == 1) return (Range){w->layer->hidden, w->values};
    if (y == PATCH - 1 || x == PATCH - 1) return (Range){w->layer->hidden, w->layer->hidden};
    const long first = y == 0 ? 2 : x == 0 ? 1 : 0, last = x == 0 ? 3 : 4;
    return (Range){w->layer->hidden + first * inputs, w->layer->hidden + last * inputs};
}

/* Copies the input's pixels of one pixel of the state, or back. */
INLINE void input_pixels(const Layer *l, float *z, float *x, long item, long at_y, long at_x, const int back) {
    for (int phase = 0; phase < l->stride * l->stride; phase++, z += l->inputs) {
        const long y = at_y * l->stride + (l->stride > 1 ? PHASES[phase][0] : 0);
        const long col = at_x * l->stride + (l->stride > 1 ? PHASES[phase][1] : 0);
        if (y >= l->input_height || col >= l->input_width) continue;
        float *pixel = x + ((item * l->input_height + y) * l->input_width + col) * l->inputs;
        memcpy(back ? pixel : z, back ? z : pixel, l->inputs * sizeof(float));
    }
}

/* Puts the state before step t and the input of step t into the padded images. */
static void fill(const Work *w, float *z, long t, long t_before) {
    const Layer *l = w->layer;
    const long pixels = l->height * l->width;
    for (long image = 0; image < w->num; image++)
        for (long y = 0; y < l->height; y++)
            for (long x = 0; x < l->width; x++) {
                float *to = z + image * w->image + (y + 1) * w->row + (x + 1) * w->channels;
                const long pixel = (w->first + image) * pixels + y * l->width + x;
                const float *hidden = t_before >= 0 ? l->out + (t_before * l->batch * pixels + pixel) * l->hidden
                    : l->hidden0 ? l->hidden0 + pixel * l->hidden : NULL;
                if (hidden)
                    for (long k = 0; k < l->hidden; k += LANES) store(to + k, load(hidden + k));
                else
                    memset(to, 0, l->hidden * sizeof(float));
                input_pixels(l, to + l->hidden, (float *)l->x, t * l->batch + w->first + image, y, x, 0);
            }
}

static void take_input(const Work *w, float *dz, long t) {
    const Layer *l = w->layer;
    for (long image = 0; image < w->num; image++)
        for (long y = 0; y < l->height; y++)
            for (long x = 0; x < l->width; x++)
                input_pixels(l, dz + image * w->image + (y + 1) * w->row + (x + 1) * w->channels + l->hidden, l->grad_x,
                             t * l->batch + w->first + image, y, x, 1);
}

static void take_hidden(const Work *w, const float *dz) {
    const Layer *l = w->layer;
    for (long image = 0; image < w->num; image++)
        for (long y = 0; y < l->height; y++)
            for (long x = 0; x < l->width; x++)
                memcpy(l->grad_hidden0 + (((w->first + image) * l->height + y) * l->width + x) * l->hidden,
                       dz + image * w->image + (y + 1) * w->row + (x + 1) * w->channels, l->hidden * sizeof(float));
}

static void step_forward(const Work *w, long t, long t_before) {
    const Layer *l = w->layer;
    const long tiles = w->num * w->tiles_y * w->tiles_x;
    const long state = t_before >= 0 || l->hidden0 ? l->hidden : 0;   /* a state of zeros need not be multiplied */
    fill(w, w->z[0], t, t_before);
    for (long start = 0; start < tiles; start += l->block) {
        const long num = tiles - start < l->block ? tiles - start : l->block;
        patches_to_points(w, w->z[0], start, num);
        for (int p = 0; p < POINTS; p++) {
            const Range x = used(w, p);
            const float *v = w->v + p * w->plane_v;
            for (long column = 0; column < w->columns; column += 2 * LANES) {
                const float *weight = l->weight + (p * w->columns + column) * w->values;
                float *m = w->m + p * w->plane_m + column;
                const long joined = x.start == state ? x.stop : state;
                panel(num, 2, joined, v, w->channels, 1, weight, 2 * LANES, m, w->columns, 0);
                if (joined < x.stop)
                    panel(num, 2, x.stop - x.start, v + x.start, w->channels, 1, weight + x.start * 2 * LANES,
                          2 * LANES, m, w->columns, 1);
            }
        }
        gates_forward(w, t, start, num);
    }
}

/* Gradients of weights, v^T m, of the values from `start` to `stop`. */
INLINE void weights_backward(const Work *w, int p, long num, long start, long stop) {
    for (long column = 0; column < w->columns; column += 2 * LANES)
        panel(stop - start, 2, num, w->v + p * w->plane_v + start, 1, w->channels, w->m + p * w->plane_m + column,
              w->columns, w->grad_weight + (p * w->columns + column) * w->values + start * 2 * LANES, 2 * LANES, 1);
}

/* Gradients of values, m weight^T, of the values from `start` to `stop`. A vector may hold values beside these: their
   weights at this point are zero, and so is what it writes there. */
INLINE void values_backward(const Work *w, int p, long num, long start, long stop) {
    const float *m = w->m + p * w->plane_m, *weight = w->layer->weight_t + p * w->columns * w->channels;
    float *dv = w->dv + p * w->plane_v;
    long k = start / LANES * LANES;
    for (; k + LANES < stop; k += 2 * LANES)
        panel(num, 2, w->columns, m, w->columns, 1, weight + k, w->channels, dv + k, w->channels, 0);
    if (k < stop) panel(num, 1, w->columns, m, w->columns, 1, weight + k, w->channels, dv + k, w->channels, 0);
}

static void step_backward(const Work *w, const float *dz_in, float *dz_out, long t, long t_before) {
    const Layer *l = w->layer;
    const long tiles = w->num * w->tiles_y * w->tiles_x;
    fill(w, w->z[0], t, t_before);
    memset(dz_out, 0, w->num * w->image * sizeof(float));
    memset(w->bias, 0, w->columns * sizeof(float));
    for (long start = 0; start < tiles; start += l->block) {
        const long num = tiles - start < l->block ? tiles - start : l->block;
        gates_backward(w, dz_in, t, t_before, start, num);
        patches_to_points(w, w->z[0], start, num);
        for (int p = 0; p < POINTS; p++) {
            const Range x = used(w, p);
            weights_backward(w, p, num, 0, l->hidden);
            weights_backward(w, p, num, x.start, x.stop);
            values_backward(w, p, num, 0, l->hidden);
            if (l->grad_x) values_backward(w, p, num, x.start, x.stop);
        }
        points_to_patches(w, dz_out, start, num);
    }
    for (long column = 0; column < w->columns; column++) w->grad_bias[column] += w->bias[column];
}

static void all_steps(Work *w, int backward) {
    const Layer *l = w->layer;
    memset(w->z[0], 0, 3 * w->num * w->image * sizeof(float));
    for (long s = 0; s < l->steps; s++) {
        const long in_order = backward ? l->steps - 1 - s : s;
        const long t = l->reverse ? l->steps - 1 - in_order : in_order;
        const long t_before = in_order == 0 ? -1 : l->reverse ? t + 1 : t - 1;
        if (!backward) {
            step_forward(w, t, t_before);
            continue;
        }
        float *dz_in = w->z[1] + s % 2 * w->num * w->image, *dz_out = w->z[1] + (s + 1) % 2 * w->num * w->image;
        step_backward(w, dz_in, dz_out, t, t_before);
        if (l->grad_x) take_input(w, dz_out, t);
        if (in_order == 0 && l->grad_hidden0) take_hidden(w, dz_out);
    }
}

static int run(const Layer *l, int backward) {
    const long tiles_y = (l->height + TILE - 1) / TILE, tiles_x = (l->width + TILE - 1) / TILE;
    const long per_thread = (l->batch + l->threads - 1) / l->threads;
    long group = (l->block + tiles_y * tiles_x - 1) / (tiles_y * tiles_x);
    group = group < per_thread ? group : per_thread;
    int failed = 0;
    #pragma omp parallel for schedule(static, 1) num_threads(l->threads)
    for (long thread = 0; thread < l->threads; thread++) {
        Work w = {.layer = l, .tiles_y = tiles_y, .tiles_x = tiles_x};
        w.values = l->hidden + l->stride * l->stride * l->inputs, w.columns = 4 * l->hidden;
        w.channels = (w.values + LANES - 1) / LANES * LANES;
        w.row = (tiles_x * TILE + 2) * w.channels, w.image = (tiles_y * TILE + 2) * w.row;
        w.plane_v = l->block * w.channels + SKEW, w.plane_m = l->block * w.columns + SKEW;
        if (backward) {
            w.grad_weight = l->grad_weight + thread * POINTS * w.columns * w.values;
            w.grad_bias = l->grad_bias + thread * w.columns;
            w.grad_peep = l->grad_peep ? l->grad_peep + thread * 3 * l->height * l->width * l->hidden : NULL;
        }
        const long images = 3 * group * w.image, floats = images + POINTS * (2 * w.plane_v + w.plane_m) + w.columns;
        float *memory = calloc(floats + 64 / sizeof(float), sizeof(float));   /* where dv has no weights, it stays 0 */
        if (!memory) {
            failed = 1;
            continue;
        }
        w.z[0] = (float *)(((size_t)memory + 63) / 64 * 64);
        w.v = w.z[0] + images, w.dv = w.v + POINTS * w.plane_v, w.m = w.dv + POINTS * w.plane_v;
        w.bias = w.m + POINTS * w.plane_m;
        const long stop = (thread + 1) * l->batch / l->threads;
        for (w.first = thread * l->batch / l->threads; w.first < stop; w.first += group) {
            w.num = stop - w.first < group ? stop - w.first : group;
            w.z[1] = w.z[0] + w.num * w.image;
            all_steps(&w, backward);
        }
        free(memory);
    }
    return failed;
}

/* Both return 0, or 1 where there is not enough memory. */
int convlstm_forward(const Layer *layer) { return run(layer, 0); }
int convlstm_backward(const Layer *layer) { return run(layer, 1); }

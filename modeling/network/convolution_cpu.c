/* 3 x 3 convolutions of any dilation, forward and backward, by Winograd's F(4 x 4, 3 x 3): Lavin & Gray 2016,
 * arXiv:1509.09308.
 *
 * A convolution of dilation d is d^2 convolutions without one, of the pixels that are d apart. Each of them is cut into
 * tiles of 4 x 4 pixels, and its border is zero. Tiles are taken through all steps in blocks that stay in the cache.
 *
 * All arrays are pixels x channels. A channel count is a multiple of 16: a panel of two vectors.
 */
#include <stdlib.h>
#include <string.h>

#include "winograd.h"

#define PANEL 16
#define BLOCK 18  /* tiles treated at once: their values at the points fit into a quarter of a megabyte */
#define SKEW 16   /* floats between planes, lest 36 planes fall on the same lines of the cache */

typedef struct {
    long batch, height, width, inputs, outputs, dilation, threads;
    long tiles_y, tiles_x;   /* of each of the d^2 convolutions */
    const float *x;          /* [image, pixel, input] */
    const float *weight;     /* [36, output / 16, input, 16] */
    const float *weight_t;   /* [36, input / 16, output, 16]; backward only */
    const float *bias;       /* [output] */
    float *out;              /* [image, pixel, output] */
    float *seen;             /* [36, plane of tile x input]: x at the points; null where there will be no backward */
    const float *grad_out;   /* as out */
    float *grad_points;      /* [36, plane of tile x output]; backward only */
    float *grad_x;           /* as x, zeros at first; or null */
    float *grad_weight;      /* [36, input, output] */
} Layer;

static long num_tiles(const Layer *l) {
    return l->batch * l->dilation * l->dilation * l->tiles_y * l->tiles_x;
}

/* Offsets in `channels` of the pixels of a square about tile n that begins `before` pixels above and left of it; -1
 * where the square is beyond the image. */
INLINE void places(const Layer *l, long n, long channels, const int side, const int before, long *at) {
    const long tile_x = n % l->tiles_x, tile_y = n / l->tiles_x % l->tiles_y, phase = n / (l->tiles_x * l->tiles_y);
    const long d = l->dilation, image = phase / (d * d), first_y = phase / d % d, first_x = phase % d;
    for (int i = 0; i < side; i++) {
        const long y = first_y + d * (tile_y * TILE + i - before);
        for (int j = 0; j < side; j++) {
            const long x = first_x + d * (tile_x * TILE + j - before);
            const int inside = y >= 0 && y < l->height && x >= 0 && x < l->width;
            at[i * side + j] = inside ? ((image * l->height + y) * l->width + x) * channels : -1;
        }
    }
}

static void images_to_points(const Layer *l, long first, long num, float *points, long plane) {
    for (long n = 0; n < num; n++) {
        long at[POINTS];
        places(l, first + n, l->inputs, PATCH, 1, at);
        for (long k = 0; k < l->inputs; k += LANES) {
            vec d[POINTS];
            for (int p = 0; p < POINTS; p++) d[p] = at[p] < 0 ? all(0.0f) : load(l->x + at[p] + k);
            for (int x = 0; x < PATCH; x++) to_points(d + x, d + x, PATCH);
            for (int y = 0; y < PATCH; y++) to_points(d + y * PATCH, d + y * PATCH, 1);
            for (int p = 0; p < POINTS; p++) store(points + p * plane + n * l->inputs + k, d[p]);
        }
    }
}

static void points_to_images(const Layer *l, long first, long num, const float *points, long plane) {
    for (long n = 0; n < num; n++) {
        long at[TILE * TILE];
        places(l, first + n, l->outputs, TILE, 0, at);
        for (long k = 0; k < l->outputs; k += LANES) {
            vec m[POINTS], half[TILE * PATCH], y[TILE * TILE];
            for (int p = 0; p < POINTS; p++) m[p] = load(points + p * plane + n * l->outputs + k);
            for (int x = 0; x < PATCH; x++) from_points(m + x, half + x, PATCH);
            for (int row = 0; row < TILE; row++) from_points(half + row * PATCH, y + row * TILE, 1);
            for (int p = 0; p < TILE * TILE; p++)
                if (at[p] >= 0) store(l->out + at[p] + k, y[p] + load(l->bias + k));
        }
    }
}

/* The transpose of points_to_images. */
static void gradients_to_points(const Layer *l, long first, long num, float *points, long plane) {
    for (long n = 0; n < num; n++) {
        long at[TILE * TILE];
        places(l, first + n, l->outputs, TILE, 0, at);
        for (long k = 0; k < l->outputs; k += LANES) {
            vec y[TILE * TILE], half[TILE * PATCH], m[POINTS];
            for (int p = 0; p < TILE * TILE; p++) y[p] = at[p] < 0 ? all(0.0f) : load(l->grad_out + at[p] + k);
            for (int row = 0; row < TILE; row++) from_points_t(y + row * TILE, half + row * PATCH, 1);
            for (int x = 0; x < PATCH; x++) from_points_t(half + x, m + x, PATCH);
            for (int p = 0; p < POINTS; p++) store(points + p * plane + n * l->outputs + k, m[p]);
        }
    }
}

/* The transpose of images_to_points; adds, since tiles of an image overlap. */
static void points_to_gradients(const Layer *l, long first, long num, const float *points, long plane) {
    for (long n = 0; n < num; n++) {
        long at[POINTS];
        places(l, first + n, l->inputs, PATCH, 1, at);
        for (long k = 0; k < l->inputs; k += LANES) {
            vec d[POINTS];
            for (int p = 0; p < POINTS; p++) d[p] = load(points + p * plane + n * l->inputs + k);
            for (int x = 0; x < PATCH; x++) to_points_t(d + x, d + x, PATCH);
            for (int y = 0; y < PATCH; y++) to_points_t(d + y * PATCH, d + y * PATCH, 1);
            for (int p = 0; p < POINTS; p++)
                if (at[p] >= 0) store(l->grad_x + at[p] + k, load(l->grad_x + at[p] + k) + d[p]);
        }
    }
}

/* out[36, tile, column] = values[36, tile, inner] weight[36, column / 16, inner, 16] */
static void products(long num, long inner, long columns, const float *values, long plane, const float *weight,
                     float *out, long out_plane) {
    for (long p = 0; p < POINTS; p++)
        for (long c = 0; c < columns; c += PANEL)
            panel(num, 2, inner, values + p * plane, inner, 1, weight + (p * columns + c) * inner, PANEL,
                  out + p * out_plane + c, columns, 0);
}

static long smaller(long a, long b) { return a < b ? a : b; }

/* A thread takes whole images. Each of both returns whether there was too little memory. */
int convolution_forward(const Layer *l) {
    const long of_image = num_tiles(l) / l->batch, all_tiles = num_tiles(l) * l->inputs + SKEW;
    const long plane = BLOCK * l->inputs + SKEW, out_plane = BLOCK * l->outputs + SKEW;
    int failed = 0;
#pragma omp parallel for num_threads(l->threads) reduction(|| : failed)
    for (long t = 0; t < l->threads; t++) {
        float *scratch = aligned_alloc(64, (POINTS * (plane + out_plane) * sizeof(float) + 63) / 64 * 64);
        failed = failed || !scratch;
        const long stop = l->batch * (t + 1) / l->threads * of_image;
        for (long n = l->batch * t / l->threads * of_image; scratch && n < stop; n += BLOCK) {
            const long num = smaller(BLOCK, stop - n);
            float *values = l->seen ? l->seen + n * l->inputs : scratch + POINTS * out_plane;
            const long stride = l->seen ? all_tiles : plane;
            images_to_points(l, n, num, values, stride);
            products(num, l->inputs, l->outputs, values, stride, l->weight, scratch, out_plane);
            points_to_images(l, n, num, scratch, out_plane);
        }
        free(scratch);
    }
    return failed;
}

int convolution_backward(const Layer *l) {
    const long of_image = num_tiles(l) / l->batch, plane = BLOCK * l->inputs + SKEW;
    const long seen_plane = num_tiles(l) * l->inputs + SKEW, grad_plane = num_tiles(l) * l->outputs + SKEW;
    int failed = 0;
#pragma omp parallel for num_threads(l->threads) reduction(|| : failed)
    for (long t = 0; t < l->threads; t++) {
        float *scratch = aligned_alloc(64, (POINTS * plane * sizeof(float) + 63) / 64 * 64);
        failed = failed || !scratch;
        const long stop = l->batch * (t + 1) / l->threads * of_image;
        for (long n = l->batch * t / l->threads * of_image; scratch && n < stop; n += BLOCK) {
            const long num = smaller(BLOCK, stop - n);
            float *grad = l->grad_points + n * l->outputs;
            gradients_to_points(l, n, num, grad, grad_plane);
            if (!l->grad_x) continue;
            products(num, l->outputs, l->inputs, grad, grad_plane, l->weight_t, scratch, plane);
            points_to_gradients(l, n, num, scratch, plane);
        }
        free(scratch);
    }
#pragma omp parallel for num_threads(l->threads)
    for (long p = 0; p < POINTS; p++)
        for (long c = 0; c < l->outputs; c += PANEL)
            panel(l->inputs, 2, num_tiles(l), l->seen + p * seen_plane, 1, l->inputs,
                  l->grad_points + p * grad_plane + c, l->outputs, l->grad_weight + p * l->inputs * l->outputs + c,
                  l->outputs, 0);
    return failed;
}

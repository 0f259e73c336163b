/* Residual block of a masked network, forward and backward, in single precision:
 *
 *     out = x + narrow(gelu(wide(gelu(norm(x)))))
 *
 * with a normalisation of groups of channels, a convolution of 3 x 3 pixels of any dilation and one of a single pixel.
 * A thread takes whole images, so values between two layers stay in its cache.
 *
 * The wide convolution is Winograd's F(4 x 4, 3 x 3) (Lavin & Gray 2016, arXiv:1509.09308): a quarter of the products.
 * One of dilation d is d^2 undilated convolutions of the pixels that are d apart. Each of them is cut into tiles of
 * 4 x 4 pixels, and its border is zero.
 *
 * All arrays are pixels x channels. The channel count is a multiple of 16: a panel of two vectors.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "winograd.h"

#define PANEL 16
#define SKEW 16   /* floats between planes, lest 36 planes fall on the same lines of the cache */
#define SUMS 4    /* rows of `sums` */

typedef struct {
    long batch, height, width, channels, groups, dilation, threads;
    long tiles_y, tiles_x;                    /* of each of the d^2 convolutions */
    float epsilon;
    const float *x;                           /* [image, pixel, channel] */
    const float *scale, *shift;               /* [channel] of the normalisation */
    const float *wide, *wide_t;               /* [36, channel / 16, channel, 16], the latter of the transpose */
    const float *wide_bias;                   /* [channel] */
    const float *narrow, *narrow_t;           /* [channel / 16, channel, 16], the latter of the transpose */
    const float *narrow_bias;                 /* [channel] */
    float *out;                               /* as x */
    float *moments;                           /* [image, 2, group]: mean, and one over the standard deviation */
    float *middle;                            /* as x: between the convolutions, before gelu */
    float *seen;                              /* [36, tile x channel + SKEW], the input of `wide` at the points */
    const float *grad_out;                    /* as x; from here on backward only */
    float *grad_x;                            /* as x */
    float *activated;                         /* as x: the input of `narrow` */
    float *grad_points;                       /* as seen */
    float *grad_wide;                         /* [36, channel in, channel out] */
    float *sums;                              /* [threads, 4, channel], zeros at first: gradients of scale, shift,
                                               * wide_bias, narrow_bias */
} Block;

/* ---- gelu ---- */

/* The rational function of Eigen for |x| <= 4, beyond which it is 1 in single precision. */
INLINE vec erf_(vec x) {
    const vec end = all(4.0f);
    x = choose(x > end, end, choose(x < -end, -end, x));
    const vec u = x * x;
    vec p = -2.72614225801306e-10f * u + 2.77068142495902e-08f;
    p = ((p * u - 2.10102402082508e-06f) * u - 5.69250639462346e-05f) * u - 7.34990630326855e-04f;
    p = (p * u - 2.95459980854025e-03f) * u - 1.60960333262415e-02f;
    vec q = -1.45660718464996e-05f * u - 2.13374055278905e-04f;
    q = ((q * u - 1.68282697438203e-03f) * u - 7.37332916720468e-03f) * u - 1.42647390514189e-02f;
    return x * p / q;
}

/* exp(x) for x <= 0; 2^round(x log2 e) is made of its bits. */
INLINE vec exp_(vec x) {
    const vec end = all(-87.0f), magic = all(12582912.0f);
    x = choose(x < end, end, x);
    const vec shifted = x * 1.44269504088896341f + magic, whole = shifted - magic;
    const vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = ((p * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f;
    p = (p * r + 5.0000001201e-1f) * r * r + r + 1.0f;
    return (vec)((ivec)p + ((ivec)shifted << 23));
}

INLINE vec share(vec x) { return 0.5f + 0.5f * erf_(x * 0.70710678118654752f); }
INLINE vec gelu(vec x) { return x * share(x); }
INLINE vec density(vec x) { return 0.39894228040143268f * exp_(-0.5f * x * x); }

/* ---- weights ---- */

/* points[36, count] of weights[3 x 3, count], by the matrix [6, 3] of one dimension */
void weights_to_points(const float *weights, const float *matrix, float *points, long count) {
    for (long k = 0; k < count; k += LANES) {
        vec rows[PATCH][3];
        for (int p = 0; p < PATCH; p++)
            for (int x = 0; x < 3; x++) {
                rows[p][x] = all(0.0f);
                for (int y = 0; y < 3; y++) rows[p][x] += matrix[p * 3 + y] * load(weights + (y * 3 + x) * count + k);
            }
        for (int p = 0; p < PATCH; p++)
            for (int q = 0; q < PATCH; q++) {
                vec sum = all(0.0f);
                for (int x = 0; x < 3; x++) sum += matrix[q * 3 + x] * rows[p][x];
                store(points + (p * PATCH + q) * count + k, sum);
            }
    }
}

/* Its transpose: weights[3 x 3, count] of points[36, count] */
void points_to_weights(const float *points, const float *matrix, float *weights, long count) {
    for (long k = 0; k < count; k += LANES) {
        vec rows[PATCH][3];
        for (int p = 0; p < PATCH; p++)
            for (int x = 0; x < 3; x++) {
                rows[p][x] = all(0.0f);
                for (int q = 0; q < PATCH; q++)
                    rows[p][x] += matrix[q * 3 + x] * load(points + (p * PATCH + q) * count + k);
            }
        for (int y = 0; y < 3; y++)
            for (int x = 0; x < 3; x++) {
                vec sum = all(0.0f);
                for (int p = 0; p < PATCH; p++) sum += matrix[p * 3 + y] * rows[p][x];
                store(weights + (y * 3 + x) * count + k, sum);
            }
    }
}

/* ---- tiles of an image ---- */
INLINE long num_tiles(const Block *b) { return b->dilation * b->dilation * b->tiles_y * b->tiles_x; }

/* Offsets of the pixels of a square about tile n that begins `before` pixels above and left of it; -1 where the square
 * is beyond the image. */
INLINE void places(const Block *b, long n, const int side, const int before, long *at) {
    const long tile_x = n % b->tiles_x, tile_y = n / b->tiles_x % b->tiles_y, phase = n / (b->tiles_x * b->tiles_y);
    const long d = b->dilation, first_y = phase / d, first_x = phase % d;
    for (int i = 0; i < side; i++) {
        const long y = first_y + d * (tile_y * TILE + i - before);
        for (int j = 0; j < side; j++) {
            const long x = first_x + d * (tile_x * TILE + j - before);
            const int inside = y >= 0 && y < b->height && x >= 0 && x < b->width;
            at[i * side + j] = inside ? (y * b->width + x) * b->channels : -1;
        }
    }
}

static void image_to_points(const Block *b, const float *image, float *points, long plane) {
    for (long n = 0; n < num_tiles(b); n++) {
        long at[POINTS];
        places(b, n, PATCH, 1, at);
        for (long k = 0; k < b->channels; k += LANES) {
            vec d[POINTS];
            for (int p = 0; p < POINTS; p++) d[p] = at[p] < 0 ? all(0.0f) : load(image + at[p] + k);
            for (int x = 0; x < PATCH; x++) to_points(d + x, d + x, PATCH);
            for (int y = 0; y < PATCH; y++) to_points(d + y * PATCH, d + y * PATCH, 1);
            for (int p = 0; p < POINTS; p++) store(points + p * plane + n * b->channels + k, d[p]);
        }
    }
}

static void points_to_image(const Block *b, const float *points, long plane, float *image) {
    for (long n = 0; n < num_tiles(b); n++) {
        long at[TILE * TILE];
        places(b, n, TILE, 0, at);
        for (long k = 0; k < b->channels; k += LANES) {
            vec m[POINTS], half[TILE * PATCH], y[TILE * TILE];
            for (int p = 0; p < POINTS; p++) m[p] = load(points + p * plane + n * b->channels + k);
            for (int x = 0; x < PATCH; x++) from_points(m + x, half + x, PATCH);
            for (int row = 0; row < TILE; row++) from_points(half + row * PATCH, y + row * TILE, 1);
            for (int p = 0; p < TILE * TILE; p++)
                if (at[p] >= 0) store(image + at[p] + k, y[p] + load(b->wide_bias + k));
        }
    }
}

/* The transpose of points_to_image. */
static void gradient_to_points(const Block *b, const float *image, float *points, long plane) {
    for (long n = 0; n < num_tiles(b); n++) {
        long at[TILE * TILE];
        places(b, n, TILE, 0, at);
        for (long k = 0; k < b->channels; k += LANES) {
            vec y[TILE * TILE], half[TILE * PATCH], m[POINTS];
            for (int p = 0; p < TILE * TILE; p++) y[p] = at[p] < 0 ? all(0.0f) : load(image + at[p] + k);
            for (int row = 0; row < TILE; row++) from_points_t(y + row * TILE, half + row * PATCH, 1);
            for (int x = 0; x < PATCH; x++) from_points_t(half + x, m + x, PATCH);
            for (int p = 0; p < POINTS; p++) store(points + p * plane + n * b->channels + k, m[p]);
        }
    }
}

/* The transpose of image_to_points; adds, since tiles overlap. */
static void points_to_gradient(const Block *b, const float *points, long plane, float *image) {
    for (long n = 0; n < num_tiles(b); n++) {
        long at[POINTS];
        places(b, n, PATCH, 1, at);
        for (long k = 0; k < b->channels; k += LANES) {
            vec d[POINTS];
            for (int p = 0; p < POINTS; p++) d[p] = load(points + p * plane + n * b->channels + k);
            for (int x = 0; x < PATCH; x++) to_points_t(d + x, d + x, PATCH);
            for (int y = 0; y < PATCH; y++) to_points_t(d + y * PATCH, d + y * PATCH, 1);
            for (int p = 0; p < POINTS; p++)
                if (at[p] >= 0) store(image + at[p] + k, load(image + at[p] + k) + d[p]);
        }
    }
}

/* out[36, tile, column] = values[36, tile, channel] weight[36, column / 16, channel, 16] */
static void products(const Block *b, const float *values, long plane, const float *weight, float *out, long out_plane) {
    const long channels = b->channels;
    for (long p = 0; p < POINTS; p++)
        for (long c = 0; c < channels; c += PANEL)
            panel(num_tiles(b), 2, channels, values + p * plane, channels, 1, weight + (p * channels + c) * channels,
                  PANEL, out + p * out_plane + c, channels, 0);
}

/* out[pixel, column] = (out +) values[pixel, channel] weight[column / 16, channel, 16] */
static void pixel_products(const Block *b, const float *values, const float *weight, float *out, const int add) {
    const long channels = b->channels;
    for (long c = 0; c < channels; c += PANEL)
        panel(b->height * b->width, 2, channels, values, channels, 1, weight + c * channels, PANEL, out + c, channels,
              add);
}

/* ---- normalisation ---- */

/* Sums [channel] of the image over its pixels, or, about a centre [channel], of its squares. */
INLINE void sum_pixels(const Block *b, const float *image, const float *centre, float *sums) {
    const int squared = centre != NULL;
    for (long k = 0; k < b->channels; k += PANEL) {  /* a line of the cache */
        vec sum[2] = {all(0.0f), all(0.0f)}, middle[2] = {all(0.0f), all(0.0f)};
        for (int q = 0; q < 2 && squared; q++) middle[q] = load(centre + k + q * LANES);
        for (long p = k; p < b->height * b->width * b->channels; p += b->channels)
            for (int q = 0; q < 2; q++) {
                const vec value = load(image + p + q * LANES) - middle[q];
                if (squared) sum[q] += value * value;
                else sum[q] += value;
            }
        for (int q = 0; q < 2; q++) store(sums + k + q * LANES, sum[q]);
    }
}

static void measure(const Block *b, const float *image, float *mean, float *inverse, float *scratch) {
    const long wide = b->channels / b->groups, count = wide * b->height * b->width;
    float *centre = scratch, *sums = scratch + b->channels;
    sum_pixels(b, image, NULL, sums);
    for (long g = 0; g < b->groups; g++) {
        double sum = 0;
        for (long k = g * wide; k < (g + 1) * wide; k++) sum += sums[k];
        mean[g] = (float)(sum / count);
        for (long k = g * wide; k < (g + 1) * wide; k++) centre[k] = mean[g];
    }
    sum_pixels(b, image, centre, sums);
    for (long g = 0; g < b->groups; g++) {
        double sum = 0;
        for (long k = g * wide; k < (g + 1) * wide; k++) sum += sums[k];
        inverse[g] = (float)(1 / sqrt(sum / count + b->epsilon));
    }
}

/* Factor and addend [channel] that make the standardised image. */
static void factors(const Block *b, const float *mean, const float *inverse, float *factor, float *addend) {
    const long wide = b->channels / b->groups;
    for (long k = 0; k < b->channels; k++) factor[k] = inverse[k / wide], addend[k] = -mean[k / wide] * inverse[k / wide];
}

/* ---- the block ---- */
INLINE void plus(float *p, vec a) { store(p, load(p) + a); }

static float *allocated(long floats) { return aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64); }

/* Both return whether there was too little memory. */
int block_forward(const Block *b) {
    const long channels = b->channels, size = b->height * b->width * channels;
    const long plane = num_tiles(b) * channels + SKEW, all_tiles = b->batch * num_tiles(b) * channels + SKEW;
    int failed = 0;
#pragma omp parallel for num_threads(b->threads) reduction(|| : failed)
    for (long t = 0; t < b->threads; t++) {
        float *scratch = allocated(2 * POINTS * plane + 2 * size + 4 * channels + 2 * b->groups);
        failed = failed || !scratch;
        for (long i = b->batch * t / b->threads; scratch && i < b->batch * (t + 1) / b->threads; i++) {
            float *found = scratch + POINTS * plane, *image = found + POINTS * plane, *middle = image + size;
            float *factor = middle + size, *addend = factor + channels, *rest = addend + channels;
            float *mean = b->moments ? b->moments + 2 * i * b->groups : rest + 2 * channels, *inverse = mean + b->groups;
            float *values = b->seen ? b->seen + i * num_tiles(b) * channels : scratch;
            const long stride = b->seen ? all_tiles : plane;
            const float *x = b->x + i * size;
            float *out = b->out + i * size;
            measure(b, x, mean, inverse, rest);
            factors(b, mean, inverse, factor, addend);
            for (long k = 0; k < channels; k += LANES) {
                store(addend + k, load(addend + k) * load(b->scale + k) + load(b->shift + k));
                store(factor + k, load(factor + k) * load(b->scale + k));
            }
            for (long p = 0; p < size; p += channels)
                for (long k = 0; k < channels; k += LANES)
                    store(image + p + k, gelu(load(factor + k) * load(x + p + k) + load(addend + k)));
            image_to_points(b, image, values, stride);
            products(b, values, stride, b->wide, found, plane);
            if (b->middle) middle = b->middle + i * size;
            points_to_image(b, found, plane, middle);
            for (long p = 0; p < size; p += LANES) store(image + p, gelu(load(middle + p)));
            for (long p = 0; p < size; p += channels)
                for (long k = 0; k < channels; k += LANES)
                    store(out + p + k, load(x + p + k) + load(b->narrow_bias + k));
            pixel_products(b, image, b->narrow, out, 1);
        }
        free(scratch);
    }
    return failed;
}

static void backward_of_image(const Block *b, long i, float *scratch, float *sums) {
    const long channels = b->channels, size = b->height * b->width * channels, wide = channels / b->groups;
    const long plane = num_tiles(b) * channels + SKEW, all_tiles = b->batch * num_tiles(b) * channels + SKEW;
    float *grad = scratch + POINTS * plane, *image = grad + size;
    float *factor = image + size, *addend = factor + channels, *along = addend + channels, *across = along + channels;
    float *points = b->grad_points + i * num_tiles(b) * channels;
    const float *x = b->x + i * size, *upstream = b->grad_out + i * size, *middle = b->middle + i * size;
    float *grad_x = b->grad_x + i * size, *activated = b->activated + i * size;
    pixel_products(b, upstream, b->narrow_t, grad, 0);
    memset(along, 0, 2 * channels * sizeof(float));
    for (long p = 0; p < size; p += channels)
        for (long k = 0; k < channels; k += LANES) {
            const vec value = load(middle + p + k), lower = share(value);
            const vec slope = (lower + value * density(value)) * load(grad + p + k);
            store(activated + p + k, value * lower);
            store(grad + p + k, slope);
            plus(along + k, slope), plus(across + k, load(upstream + p + k));
        }
    for (long k = 0; k < channels; k += LANES) {
        plus(sums + 2 * channels + k, load(along + k));
        plus(sums + 3 * channels + k, load(across + k));
    }
    gradient_to_points(b, grad, points, all_tiles);
    products(b, points, all_tiles, b->wide_t, scratch, plane);
    memset(image, 0, size * sizeof(float));
    points_to_gradient(b, scratch, plane, image);
    factors(b, b->moments + 2 * i * b->groups, b->moments + (2 * i + 1) * b->groups, factor, addend);
    memset(along, 0, 2 * channels * sizeof(float));
    for (long p = 0; p < size; p += channels)
        for (long k = 0; k < channels; k += LANES) {
            const vec standard = load(factor + k) * load(x + p + k) + load(addend + k);
            const vec value = load(b->scale + k) * standard + load(b->shift + k);
            const vec slope = (share(value) + value * density(value)) * load(image + p + k);
            store(image + p + k, slope);
            plus(along + k, slope * standard), plus(across + k, slope);
        }
    for (long k = 0; k < channels; k += LANES) {
        plus(sums + k, load(along + k));
        plus(sums + channels + k, load(across + k));
        store(along + k, load(b->scale + k) * load(along + k));
        store(across + k, load(b->scale + k) * load(across + k));
    }
    for (long g = 0; g < b->groups; g++) {  /* parts of the gradient through the mean and the spread of the group */
        double of_spread = 0, of_mean = 0;
        for (long k = g * wide; k < (g + 1) * wide; k++) of_spread += along[k], of_mean += across[k];
        const double count = (double)(wide * b->height * b->width);
        for (long k = g * wide; k < (g + 1) * wide; k++)
            along[k] = (float)(of_spread / count), across[k] = (float)(of_mean / count);
    }
    for (long p = 0; p < size; p += channels)
        for (long k = 0; k < channels; k += LANES) {
            const vec inverse = load(factor + k), standard = inverse * load(x + p + k) + load(addend + k);
            const vec rest = load(b->scale + k) * load(image + p + k) - load(across + k) - standard * load(along + k);
            store(grad_x + p + k, load(upstream + p + k) + inverse * rest);
        }
}

int block_backward(const Block *b) {
    const long channels = b->channels, size = b->height * b->width * channels;
    const long plane = num_tiles(b) * channels + SKEW, all_tiles = b->batch * num_tiles(b) * channels + SKEW;
    int failed = 0;
#pragma omp parallel for num_threads(b->threads) reduction(|| : failed)
    for (long t = 0; t < b->threads; t++) {
        float *scratch = allocated(POINTS * plane + 2 * size + 4 * channels);
        failed = failed || !scratch;
        for (long i = b->batch * t / b->threads; scratch && i < b->batch * (t + 1) / b->threads; i++)
            backward_of_image(b, i, scratch, b->sums + t * SUMS * channels);
        free(scratch);
    }
#pragma omp parallel for num_threads(b->threads)
    for (long p = 0; p < POINTS; p++)
        for (long c = 0; c < channels; c += PANEL)
            panel(channels, 2, b->batch * num_tiles(b), b->seen + p * all_tiles, 1, channels,
                  b->grad_points + p * all_tiles + c, channels, b->grad_wide + p * channels * channels + c, channels, 0);
    return failed;
}

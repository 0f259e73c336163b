/* Squared Mahalanobis distance of each spaxel's residuals, with a covariance of low rank beside independent variances,
 * and its determinant; see error_modes.py. One pass over the samples of a spaxel, which stay in the nearest cache.
 */
#include <math.h>
#include <stdlib.h>

#include "vectors.h"

#define MOST_MODES 16

typedef struct {
    long spaxels, samples, modes, threads;
    const float *residual, *variance;  /* [spaxel, sample] */
    const float *shapes;               /* [spaxel, mode, sample] */
    const unsigned char *tested;       /* [spaxel, sample]; other samples are never used */
    float *distance, *determinant;     /* [spaxel]; the latter its logarithm */
    float *weights;                    /* [spaxel, mode]: of the modes in the residual */
    float *covariance;                 /* [spaxel, mode, mode]: of the modes given the residual */
    const float *grad_distance, *grad_determinant;
    float *grad_residual, *grad_variance, *grad_shapes;
} Spaxels;

/* Tested residuals, inverse variances and modes of a spaxel, each filled up with zeros to whole vectors. */
static void staged(const Spaxels *s, long n, float *to, long wide) {
    const unsigned char *tested = s->tested + n * s->samples;
    const float *residual = s->residual + n * s->samples, *variance = s->variance + n * s->samples;
    for (long f = 0; f < s->samples; f++) to[f] = tested[f] ? residual[f] : 0.0f;
    for (long f = 0; f < s->samples; f++) to[wide + f] = tested[f] ? 1.0f / variance[f] : 0.0f;
    for (long m = 0; m < s->modes; m++) {
        const float *shape = s->shapes + (n * s->modes + m) * s->samples;
        for (long f = 0; f < s->samples; f++) to[(2 + m) * wide + f] = tested[f] ? shape[f] : 0.0f;
    }
}

INLINE double total(vec a) {
    double sum = 0;
    for (int i = 0; i < LANES; i++) sum += a[i];
    return sum;
}

/* Inverse of a symmetric positive definite matrix, in place, and the logarithm of its determinant. */
static double inverted(double *a, long size) {
    double logarithm = 0;
    for (long k = 0; k < size; k++) {  /* Gauss-Jordan: pivots of such a matrix are above 0 */
        const double pivot = a[k * size + k];
        logarithm += log(pivot);
        a[k * size + k] = 1;
        for (long j = 0; j < size; j++) a[k * size + j] /= pivot;
        for (long i = 0; i < size; i++) {
            const double factor = a[i * size + k];
            if (i == k) continue;
            a[i * size + k] = 0;
            for (long j = 0; j < size; j++) a[i * size + j] -= factor * a[k * size + j];
        }
    }
    return logarithm;
}

static double sum_of_logarithms(const Spaxels *s, long n) {
    double sum = 0, product = 1;  /* eight single-precision numbers at most, which double precision holds */
    long count = 0;
    for (long f = n * s->samples; f < (n + 1) * s->samples; f++) {
        if (!s->tested[f]) continue;
        product *= s->variance[f];
        if (++count % 8 == 0) sum += log(product), product = 1;
    }
    return sum + log(product);
}

/* Both return whether there was too little memory. */
int error_modes_forward(const Spaxels *s) {
    const long wide = (s->samples + LANES - 1) / LANES * LANES, modes = s->modes;
    int failed = 0;
#pragma omp parallel num_threads(s->threads) reduction(|| : failed)
    {
        float *staging = calloc((2 + modes) * wide, sizeof(float));
        failed = failed || !staging;
#pragma omp for
        for (long n = 0; n < s->spaxels; n++) {
            double precision[MOST_MODES * MOST_MODES], along[MOST_MODES], distance;
            if (!staging) continue;
            staged(s, n, staging, wide);
            const float *residual = staging, *inverse = staging + wide, *shapes = staging + 2 * wide;
            vec squares = all(0.0f);
            for (long f = 0; f < wide; f += LANES) squares += load(residual + f) * load(residual + f) * load(inverse + f);
            distance = total(squares);
            for (long m = 0; m < modes; m++) {
                vec product = all(0.0f);
                for (long f = 0; f < wide; f += LANES)
                    product += load(shapes + m * wide + f) * load(inverse + f) * load(residual + f);
                along[m] = total(product);
                for (long k = 0; k <= m; k++) {
                    vec sum = all(0.0f);
                    for (long f = 0; f < wide; f += LANES)
                        sum += load(shapes + m * wide + f) * load(inverse + f) * load(shapes + k * wide + f);
                    precision[m * modes + k] = precision[k * modes + m] = total(sum) + (m == k);
                }
            }
            s->determinant[n] = (float)(sum_of_logarithms(s, n) + inverted(precision, modes));
            for (long m = 0; m < modes; m++) {
                double weight = 0;
                for (long k = 0; k < modes; k++) {
                    weight += precision[m * modes + k] * along[k];
                    s->covariance[(n * modes + m) * modes + k] = (float)precision[m * modes + k];
                }
                s->weights[n * modes + m] = (float)weight;
                distance -= weight * along[m];
            }
            s->distance[n] = (float)distance;
        }
        free(staging);
    }
    return failed;
}

int error_modes_backward(const Spaxels *s) {
    const long wide = (s->samples + LANES - 1) / LANES * LANES, modes = s->modes;
    int failed = 0;
#pragma omp parallel num_threads(s->threads) reduction(|| : failed)
    {
        float *staging = calloc((4 + 2 * modes) * wide, sizeof(float));
        failed = failed || !staging;
#pragma omp for
        for (long n = 0; n < s->spaxels; n++) {
            if (!staging) continue;
            staged(s, n, staging, wide);
            const float *residual = staging, *inverse = staging + wide, *shapes = staging + 2 * wide;
            float *of_residual = staging + (2 + modes) * wide, *of_variance = of_residual + wide;
            float *of_shapes = of_variance + wide;
            const float *weights = s->weights + n * modes, *covariance = s->covariance + n * modes * modes;
            const vec distance = all(2 * s->grad_distance[n]), determinant = all(2 * s->grad_determinant[n]);
            for (long f = 0; f < wide; f += LANES) {
                const vec share = load(inverse + f);
                vec rest = load(residual + f), spread = all(0.0f);
                for (long m = 0; m < modes; m++) rest -= weights[m] * load(shapes + m * wide + f);
                rest *= share;
                for (long m = 0; m < modes; m++) {
                    vec image = all(0.0f);
                    for (long k = 0; k < modes; k++)
                        image += covariance[m * modes + k] * load(shapes + k * wide + f);
                    image *= share;
                    spread += image * load(shapes + m * wide + f);
                    store(of_shapes + m * wide + f, determinant * image - distance * weights[m] * rest);
                }
                store(of_residual + f, distance * rest);
                store(of_variance + f, 0.5f * (determinant * share * (1.0f - spread) - distance * rest * rest));
            }
            for (long f = 0; f < s->samples; f++) {
                s->grad_residual[n * s->samples + f] = of_residual[f];
                s->grad_variance[n * s->samples + f] = of_variance[f];
            }
            for (long m = 0; m < modes; m++)
                for (long f = 0; f < s->samples; f++)
                    s->grad_shapes[(n * modes + m) * s->samples + f] = of_shapes[m * wide + f];
        }
        free(staging);
    }
    return failed;
}

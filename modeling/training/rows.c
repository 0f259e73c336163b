// Operations of a loader on rows of windows, each one call, without Python's lock.

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

// Marks good samples; where one is not, flux and ivar become 0.
void set_bad_to_zero(long number, float *flux, float *ivar, const uint8_t *mask, uint8_t *good) {
    for (long i = 0; i < number; i++) {
        // `&`, not `&&`: without branches a compiler can use vectors.
        uint8_t is_good = (mask[i] == 0) & (ivar[i] > 0) & (ivar[i] <= FLT_MAX) & (fabsf(flux[i]) <= FLT_MAX);
        good[i] = is_good;
        flux[i] = is_good ? flux[i] : 0;
        ivar[i] = is_good ? ivar[i] : 0;
    }
}

// Copies `number` arrays of `sizes` bytes.
void copy_all(long number, const void *const *from, void *const *to, const long *sizes) {
    for (long i = 0; i < number; i++)
        memcpy(to[i], from[i], sizes[i]);
}

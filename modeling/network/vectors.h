/* Vectors of 8 numbers of single precision.
 *
 * GCC's and Clang's vector types become what the processor has: AVX or, in halves, SSE or NEON.
 */
#pragma once
#define LANES 8
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(4 * LANES)));

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec a) { *(vec *)p = a; }
INLINE vec all(float a) { return (vec){a, a, a, a, a, a, a, a}; }
INLINE vec choose(ivec mask, vec a, vec b) { return (vec)(((ivec)a & mask) | ((ivec)b & ~mask)); }

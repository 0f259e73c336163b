/* The gates' functions, Winograd's transforms of F(4 x 4, 3 x 3) and products of small matrices.
 */
#include "vectors.h"

#define TILE 4
#define PATCH 6
#define POINTS 36
#define ROWS 6    /* of a block of products held in registers: 6 x 16 sums, 2 weights and a value are 15 of 16 */

/* x P(x^2) / Q(x^2), fitted to a relative 7e-9 over |x| <= 7.9, where 1 - tanh(x) is below single precision. */
INLINE vec tanh_(vec x) {
    const vec end = all(7.9f);
    x = choose(x > end, end, choose(x < -end, -end, x));
    const vec u = x * x;
    const vec p = (((1.547988472e-08f * u + 2.205725261e-05f) * u + 3.580952971e-03f) * u + 1.345224539e-01f) * u
        + 9.999999945e-01f;
    const vec q = (((8.618914212e-07f * u + 3.426924849e-04f) * u + 2.619961296e-02f) * u + 4.678557356e-01f) * u
        + 1.0f;
    return x * p / q;
}
INLINE vec sigmoid(vec x) { return 0.5f + 0.5f * tanh_(0.5f * x); }

/* ---- Winograd's transforms in one dimension; in and out are s vectors apart ---- */
#define A 0.70710678118654752f
#define B 1.41421356237309505f

INLINE void to_points(const vec *d, vec *t, const int s) {        /* 6 pixels to 6 points */
    const vec ea = d[4 * s] - 2.0f * d[2 * s], oa = A * (d[3 * s] - 2.0f * d[s]);
    const vec eb = d[4 * s] - 0.5f * d[2 * s], ob = B * (d[3 * s] - 0.5f * d[s]);
    const vec first = d[0] - 2.5f * d[2 * s] + d[4 * s], last = d[s] - 2.5f * d[3 * s] + d[5 * s];
    t[0] = first, t[s] = ea + oa, t[2 * s] = ea - oa, t[3 * s] = eb + ob, t[4 * s] = eb - ob, t[5 * s] = last;
}
INLINE void from_points(const vec *m, vec *y, const int s) {      /* 6 points to 4 pixels */
    const vec ea = m[s] + m[2 * s], oa = m[s] - m[2 * s], eb = m[3 * s] + m[4 * s], ob = m[3 * s] - m[4 * s];
    const vec first = m[0] + ea + eb, last = A * 0.5f * oa + B * 2.0f * ob + m[5 * s];
    y[0] = first, y[s] = A * oa + B * ob, y[2 * s] = 0.5f * ea + 2.0f * eb, y[3 * s] = last;
}
INLINE void from_points_t(const vec *y, vec *m, const int s) {    /* its transpose: 4 pixels to 6 points */
    const vec ea = y[0] + 0.5f * y[2 * s], oa = A * (y[s] + 0.5f * y[3 * s]);
    const vec eb = y[0] + 2.0f * y[2 * s], ob = B * (y[s] + 2.0f * y[3 * s]);
    const vec first = y[0], last = y[3 * s];
    m[0] = first, m[s] = ea + oa, m[2 * s] = ea - oa, m[3 * s] = eb + ob, m[4 * s] = eb - ob, m[5 * s] = last;
}
INLINE void to_points_t(const vec *t, vec *d, const int s) {      /* the transpose of the first: 6 points to 6 pixels */
    const vec ea = t[s] + t[2 * s], oa = t[s] - t[2 * s], eb = t[3 * s] + t[4 * s], ob = t[3 * s] - t[4 * s];
    const vec first = t[0], last = t[5 * s];
    d[0] = first, d[s] = last - A * 2.0f * oa - B * 0.5f * ob, d[2 * s] = -2.5f * first - 2.0f * ea - 0.5f * eb;
    d[3 * s] = A * oa + B * ob - 2.5f * last, d[4 * s] = first + ea + eb, d[5 * s] = last;
}

/* ---- products of small matrices ---- */
INLINE void product(const int rows, const int vecs, long n, const float *a, long a_row, long a_n, const float *b,
                    long b_n, float *out, long out_row, const int add) {
    vec sum[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < vecs; q++) sum[r][q] = add ? load(out + r * out_row + q * LANES) : all(0.0f);
    for (long i = 0; i < n; i++) {
        const vec b0 = load(b + i * b_n), b1 = vecs > 1 ? load(b + i * b_n + LANES) : b0;
        for (int r = 0; r < rows; r++) {
            const vec value = all(a[r * a_row + i * a_n]);
            sum[r][0] += value * b0;
            if (vecs > 1) sum[r][1] += value * b1;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < vecs; q++) store(out + r * out_row + q * LANES, sum[r][q]);
}

/* out[rows, 8 vecs] = (out +) a[rows, n] b[n, 8 vecs] */
INLINE void panel(long rows, const int vecs, long n, const float *a, long a_row, long a_n, const float *b, long b_n,
                  float *out, long out_row, const int add) {
    for (; rows >= ROWS; rows -= ROWS, a += ROWS * a_row, out += ROWS * out_row)
        product(ROWS, vecs, n, a, a_row, a_n, b, b_n, out, out_row, add);
    switch (rows) {
        case 5: product(5, vecs, n, a, a_row, a_n, b, b_n, out, out_row, add); break;
        case 4: product(4, vecs, n, a, a_row, a_n, b, b_n, out, out_row, add); break;
        case 3: product(3, vecs, n, a, a_row, a_n, b, b_n, out, out_row, add); break;
        case 2: product(2, vecs, n, a, a_row, a_n, b, b_n, out, out_row, add); break;
        case 1: product(1, vecs, n, a, a_row, a_n, b, b_n, out, out_row, add); break;
    }
}

// ConvLSTM with kernels of 3 x 3: all steps of a layer in one launch, on clusters of multiprocessors.
//
// A block of threads takes an image, or a band of its rows, through all steps; the blocks of one image are a cluster. The
// weights and the cell stay in registers. The hidden state lies in shared memory twice, for the step that reads it and the
// one that writes it, with a margin of one pixel: zeros outside the image, else the rows next to the band, which the
// block above or below writes there from its own multiprocessor. One barrier of the cluster per step separates the two.
//
// Products have 16 pixels ("a tile") x 16 channels of one neighbour, in bfloat16 with sums in float32, by `mma.sync`. The
// rows of their left factor are pixels of the shared state, at addresses that differ by neighbour only by a constant:
// nothing is copied. A warp computes all four gates of eight channels, so that one thread has the four gates of a pixel
// and channel.
//
// Backward, a step multiplies the gradients of the gates of the nine neighbours, [pixels, 9 x 4 x HIDDEN], by the weights.
// The warps of a tile share the sum by gates and add their parts through shared memory.
//
// Fixed by the preprocessor: HIDDEN (16 or 32), HEIGHT, WIDTH, ROWS and BANDS (rows of a band, bands of an image), REPEAT
// (tiles of a warp), REVERSE, KEEP. Arrays are those of `convlstm_triton`: `gates` [step, image, pixel, gate, HIDDEN] with
// the gates in the order i, f, o, g; `hidden` and `cells` [step + 1, image, pixel, HIDDEN]; pairs of bfloat16 are one u32.
// `weight` has the right factors in the order in which lanes hold them (`convlstm_cluster.pack`).
//
// Written in what C and CUDA share: tests run it on CPUs (tests/modeling/network/cluster_on_cpu.c).

#define PARTS (HIDDEN / 8)                  // warps of a tile
#define PIXELS (ROWS * WIDTH)               // of a band
#define TILES ((PIXELS + 15) / 16)          // of a band
#define GROUPS ((TILES + REPEAT - 1) / REPEAT)
#define THREADS (32 * PARTS * GROUPS)
#define CHUNKS (HIDDEN / 16)                // products of one neighbour
#define PADDED (WIDTH + 2)
#define PAIRS (HIDDEN / 2)
#define IMAGE (HEIGHT * WIDTH)

// Bytes. Pixels are 16 bytes further apart than they need, so that eight rows of a product lie in different banks.
#define STATE (2 * HIDDEN + 16)
#define STATES ((ROWS + 2) * PADDED * STATE)
#define GATE (2 * HIDDEN)
#define GATES (4 * GATE + 16)
#define ALL_GATES ((ROWS + 2) * PADDED * GATES)

#ifndef ON_CPU
typedef unsigned u32;
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 1) CLUSTER
#if BANDS > 1
#define CLUSTER __cluster_dims__(BANDS, 1, 1)
#else
#define CLUSTER
#endif
#define INLINE __device__ __forceinline__
#define THREAD threadIdx.x
#define BLOCK blockIdx.x
#define UNROLL _Pragma("unroll")

typedef struct {
    u32 at[4];
} Rows;

extern __shared__ __align__(16) unsigned char memory[];

// Address of the block's shared memory, as the instructions below take it.
INLINE u32 shared_memory(void) { return (u32)__cvta_generic_to_shared(memory); }

INLINE void store(u32 address, u32 value) { asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory"); }

INLINE void store_sums(u32 address, const float *x) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]) : "memory");
}

INLINE void add_sums(u32 address, float *x) {
    float a, b, c, d;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(a), "=f"(b), "=f"(c), "=f"(d) : "r"(address) : "memory");
    x[0] += a, x[1] += b, x[2] += c, x[3] += d;
}

// The same address in another block of the cluster.
INLINE u32 in_block(u32 address, u32 rank) {
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

INLINE void store_there(u32 address, u32 value) {
    asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

// Left factor of a product: 16 rows of 16 numbers; each lane gives the address of eight numbers of a row.
INLINE Rows load_rows(u32 address) {
    Rows x;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.at[0]), "=r"(x.at[1]), "=r"(x.at[2]), "=r"(x.at[3])
                 : "r"(address)
                 : "memory");
    return x;
}

// Adds a product of [16, 16] by [16, 8]. Of its sums a lane has rows lane / 4 and that plus 8, columns lane % 4 * 2 and the next.
INLINE void multiply(float *sums, Rows a, const u32 *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b[0]), "r"(b[1]));
}

// Volatile: the compiler must not read weights again in each step.
INLINE void load_weights(const u32 *weight, u32 *to) {
    asm volatile("ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "l"(weight));
}

// Error 5e-4, an eighth of bfloat16's.
INLINE float tanh_fast(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

INLINE u32 pair(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

INLINE float low(u32 both) { return __uint_as_float(both << 16); }

INLINE float high(u32 both) { return __uint_as_float(both & 0xffff0000u); }

// The two halves of a barrier of all threads of an image: what was stored before `arrive` is there after `wait`.
INLINE void arrive(void) {
#if BANDS > 1
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

INLINE void wait(void) {
#if BANDS > 1
    __syncwarp();
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
}

INLINE void wait_for_block(void) { __syncthreads(); }

// Barrier of the warps that share tiles.
INLINE void wait_for_group(u32 group) { asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(32 * PARTS) : "memory"); }
#endif

INLINE float sigmoid(float x) { return 0.5f + 0.5f * tanh_fast(0.5f * x); }

// Two numbers that are read and written at once.
typedef struct {
    float at[2];
} __attribute__((aligned(8))) Two;

// Pixels of the block's band that a thread has in its tiles, two in each: rows lane / 4 and that plus 8 of the product.
typedef struct {
    u32 inside[REPEAT][2];    // whether they are pixels of the image
    u32 state[REPEAT][2];     // the thread's two channels in arrays of states, in pairs
    u32 gate[REPEAT][2];      // and of the first gate in arrays of gates
    u32 shared[REPEAT][2];    // pixel in shared memory, counted with the margin
    u32 above[REPEAT][2];     // whether the band above needs it
    u32 below[REPEAT][2];     // whether the band below needs it
    u32 row[REPEAT];          // pixel in shared memory that is the lane's row of the left factor
} Place;

INLINE u32 in_margin(u32 pixel) { return (pixel / WIDTH + 1) * PADDED + pixel % WIDTH + 1; }

INLINE Place place(u32 band, u32 group, u32 part, u32 lane) {
    Place at;
    UNROLL
    for (u32 r = 0; r < REPEAT; r++) {
        const u32 tile = group * REPEAT + r, row = tile * 16 + lane % 16;
        // A row that is no pixel repeats the first; its sums are not used.
        at.row[r] = in_margin(row < PIXELS ? row : 0);
        UNROLL
        for (u32 e = 0; e < 2; e++) {
            const u32 pixel = tile * 16 + lane / 4 + 8 * e, y = pixel / WIDTH;
            at.inside[r][e] = pixel < PIXELS && band * ROWS + y < HEIGHT;
            at.shared[r][e] = in_margin(at.inside[r][e] ? pixel : 0);
            at.state[r][e] = (band * PIXELS + pixel) * PAIRS + part * 4 + lane % 4;
            at.gate[r][e] = (band * PIXELS + pixel) * 4 * PAIRS + part * 4 + lane % 4;
            at.above[r][e] = at.inside[r][e] && y == 0 && band > 0;
            at.below[r][e] = at.inside[r][e] && y == ROWS - 1 && (band + 1) * ROWS < HEIGHT;
        }
    }
    return at;
}

// Stores a pair for this block and for those that have its pixel in their margin; `above` and `below` are their memory.
INLINE void share(const Place *at, u32 r, u32 e, u32 mine, u32 above, u32 below, u32 size, u32 offset, u32 value) {
    const u32 to = at->shared[r][e] * size + offset;
    if (at->inside[r][e])
        store(mine + to, value);
#if BANDS > 1
    if (at->above[r][e])
        store_there(above + to + ROWS * PADDED * size, value);
    if (at->below[r][e])
        store_there(below + to - ROWS * PADDED * size, value);
#endif
}

KERNEL forward(u32 *gates, u32 *hidden, Two *cells, const u32 *weight, int steps, int batch) {
    const u32 lane = THREAD % 32, part = THREAD / 32 % PARTS, group = THREAD / 32 / PARTS;
    const u32 image = BLOCK / BANDS, band = BLOCK % BANDS;
    const u32 mine = shared_memory();
    const u32 above = in_block(mine, band > 0 ? band - 1 : band), below = in_block(mine, band + 1 < BANDS ? band + 1 : band);
    const size_t frame_size = (size_t)batch * IMAGE * PAIRS;
    const Place at = place(band, group, part, lane);
    gates += (size_t)image * IMAGE * 4 * PAIRS;
    hidden += (size_t)image * IMAGE * PAIRS;
    cells += (size_t)image * IMAGE * PAIRS;

    u32 weights[9 * CHUNKS][4][2];
    UNROLL
    for (u32 k = 0; k < 9 * CHUNKS; k++) {
        const u32 *from = weight + ((part * 9 * CHUNKS + k) * 32 + lane) * 8;
        load_weights(from, weights[k][0]);
        load_weights(from + 4, weights[k][2]);
    }
    for (u32 k = THREAD; k < 2 * STATES / 4; k += THREADS)
        store(mine + 4 * k, 0);
    wait_for_block();
    const size_t start = REVERSE ? steps : 0;
    for (u32 k = THREAD; k < (ROWS + 2) * WIDTH * PAIRS; k += THREADS) {
        const int pixel = k / PAIRS, y = (int)(band * ROWS) + pixel / WIDTH - 1;
        if (y >= 0 && y < HEIGHT)
            store(mine + (pixel / WIDTH * PADDED + pixel % WIDTH + 1) * STATE + k % PAIRS * 4,
                  hidden[start * frame_size + (size_t)(y * WIDTH + pixel % WIDTH) * PAIRS + k % PAIRS]);
    }
    const Two zeros = {{0, 0}};
    Two cell[REPEAT][2];
    u32 input[REPEAT][2][4];
    UNROLL
    for (u32 r = 0; r < REPEAT; r++)
        UNROLL
        for (u32 e = 0; e < 2; e++) {
            cell[r][e] = at.inside[r][e] ? cells[(KEEP ? start : 0) * frame_size + at.state[r][e]] : zeros;
            UNROLL
            for (u32 q = 0; q < 4; q++)
                input[r][e][q] =
                    at.inside[r][e] ? gates[(REVERSE ? steps - 1 : 0) * 4 * frame_size + at.gate[r][e] + q * PAIRS] : 0;
        }
    arrive();
    wait();
    for (int step = 0; step < steps; step++) {
        const size_t frame = REVERSE ? steps - 1 - step : step, next = REVERSE ? frame - 1 : frame + 1;
        const size_t after = REVERSE ? frame : frame + 1;
        const u32 from = step % 2 * STATES, to = STATES - from;
        u32 h[REPEAT][2], active[REPEAT][2][4];
        UNROLL
        for (u32 r = 0; r < REPEAT; r++) {
            float sums[4][4];
            UNROLL
            for (u32 q = 0; q < 4; q++)
                UNROLL
                for (u32 e = 0; e < 2; e++) {
                    sums[q][2 * e] = low(input[r][e][q]);
                    sums[q][2 * e + 1] = high(input[r][e][q]);
                    // Memory answers later than a product takes.
                    if (step + 1 < steps && at.inside[r][e])
                        input[r][e][q] = gates[next * 4 * frame_size + at.gate[r][e] + q * PAIRS];
                }
            const u32 row = mine + from + at.row[r] * STATE + lane / 16 * 16;
            UNROLL
            for (int tap = 0; tap < 9; tap++)
                UNROLL
                for (u32 chunk = 0; chunk < CHUNKS; chunk++) {
                    const Rows a = load_rows(row + ((tap / 3 - 1) * PADDED + tap % 3 - 1) * STATE + chunk * 32);
                    UNROLL
                    for (u32 q = 0; q < 4; q++)
                        multiply(sums[q], a, weights[tap * CHUNKS + chunk][q]);
                }
            UNROLL
            for (u32 e = 0; e < 2; e++) {
                float out[2];
                UNROLL
                for (u32 c = 0; c < 2; c++) {
                    float *i = &sums[0][2 * e + c], *f = &sums[1][2 * e + c], *o = &sums[2][2 * e + c], *g = &sums[3][2 * e + c];
                    *i = sigmoid(*i), *f = sigmoid(*f), *o = sigmoid(*o), *g = tanh_fast(*g);
                    cell[r][e].at[c] = *f * cell[r][e].at[c] + *i * *g;
                    out[c] = *o * tanh_fast(cell[r][e].at[c]);
                }
                UNROLL
                for (u32 q = 0; q < 4; q++)
                    active[r][e][q] = pair(sums[q][2 * e], sums[q][2 * e + 1]);
                h[r][e] = pair(out[0], out[1]);
                share(&at, r, e, mine + to, above + to, below + to, STATE, part * 16 + lane % 4 * 4, h[r][e]);
            }
        }
        arrive();
        // Between the halves of the barrier, since no block waits for these.
        UNROLL
        for (u32 r = 0; r < REPEAT; r++)
            UNROLL
            for (u32 e = 0; e < 2; e++)
                if (at.inside[r][e]) {
                    hidden[after * frame_size + at.state[r][e]] = h[r][e];
                    if (KEEP || step + 1 == steps)
                        cells[(KEEP ? after : 0) * frame_size + at.state[r][e]] = cell[r][e];
                    UNROLL
                    for (u32 q = 0; q < 4; q++)
                        if (KEEP)
                            gates[frame * 4 * frame_size + at.gate[r][e] + q * PAIRS] = active[r][e][q];
                }
        wait();
    }
}

KERNEL backward(const u32 *gates, const Two *cells, const u32 *grad_hidden, Two *grad_cell, u32 *grad_gates,
                const u32 *weight, int steps, int batch) {
    const u32 lane = THREAD % 32, part = THREAD / 32 % PARTS, group = THREAD / 32 / PARTS;
    const u32 image = BLOCK / BANDS, band = BLOCK % BANDS;
    const u32 mine = shared_memory(), parts = mine + 2 * ALL_GATES;
    const u32 above = in_block(mine, band > 0 ? band - 1 : band), below = in_block(mine, band + 1 < BANDS ? band + 1 : band);
    const size_t frame_size = (size_t)batch * IMAGE * PAIRS;
    const Place at = place(band, group, part, lane);
    gates += (size_t)image * IMAGE * 4 * PAIRS;
    grad_gates += (size_t)image * IMAGE * 4 * PAIRS;
    grad_hidden += (size_t)image * IMAGE * PAIRS;
    cells += (size_t)image * IMAGE * PAIRS;
    grad_cell += (size_t)image * IMAGE * PAIRS;

    // Of a warp's gates: all of one with 32 channels, of two with 16.
    u32 weights[4 / PARTS][9 * CHUNKS][PARTS][2];
    UNROLL
    for (u32 q = 0; q < 4 / PARTS; q++)
        UNROLL
        for (u32 k = 0; k < 9 * CHUNKS; k++) {
            const u32 *from = weight + (((part * (4 / PARTS) + q) * 9 * CHUNKS + k) * 32 + lane) * (2 * PARTS);
            UNROLL
            for (u32 n = 0; n < PARTS; n += 2)
                load_weights(from + 2 * n, weights[q][k][n]);
        }
    for (u32 k = THREAD; k < 2 * ALL_GATES / 4; k += THREADS)
        store(mine + 4 * k, 0);

    // Of a frame: its gates, the cell before it and the gradient of its output, read a step ahead.
    u32 active[REPEAT][2][4], of_hidden[REPEAT][2];
    const Two zeros = {{0, 0}};
    Two cell[REPEAT][2], before[REPEAT][2], of_cell[REPEAT][2];
    const size_t last = REVERSE ? 0 : steps;
    UNROLL
    for (u32 r = 0; r < REPEAT; r++)
        UNROLL
        for (u32 e = 0; e < 2; e++) {
            const u32 inside = at.inside[r][e];
            const size_t frame = REVERSE ? 0 : steps - 1, state = frame * frame_size + at.state[r][e];
            UNROLL
            for (u32 q = 0; q < 4; q++)
                active[r][e][q] = inside ? gates[frame * 4 * frame_size + at.gate[r][e] + q * PAIRS] : 0;
            of_hidden[r][e] = inside ? grad_hidden[state] : 0;
            cell[r][e] = inside ? cells[last * frame_size + at.state[r][e]] : zeros;
            before[r][e] = inside ? cells[state + (REVERSE ? frame_size : 0)] : zeros;
            of_cell[r][e] = inside ? grad_cell[at.state[r][e]] : zeros;
        }
    arrive();
    wait();
    for (int step = 0; step < steps; step++) {
        const size_t frame = REVERSE ? step : steps - 1 - step, next = REVERSE ? frame + 1 : frame - 1;
        const u32 from = step % 2 * ALL_GATES, to = ALL_GATES - from;
        UNROLL
        for (u32 r = 0; r < REPEAT; r++) {
            float sums[PARTS][4];
            UNROLL
            for (u32 n = 0; n < PARTS; n++)
                sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;
            const u32 row = mine + from + at.row[r] * GATES + lane / 16 * 16 + part * (4 / PARTS) * GATE;
            UNROLL
            for (u32 q = 0; q < 4 / PARTS; q++)
                UNROLL
                for (int tap = 0; tap < 9; tap++)
                    UNROLL
                    for (u32 chunk = 0; chunk < CHUNKS; chunk++) {
                        // The gates at p - d took this pixel as their neighbour at d.
                        const Rows a = load_rows(row - ((tap / 3 - 1) * PADDED + tap % 3 - 1) * GATES + q * GATE + chunk * 32);
                        UNROLL
                        for (u32 n = 0; n < PARTS; n++)
                            multiply(sums[n], a, weights[q][tap * CHUNKS + chunk][n]);
                    }
            UNROLL
            for (u32 n = 0; n < PARTS; n++)
                store_sums(parts + ((((group * REPEAT + r) * PARTS + n) * PARTS + part) * 32 + lane) * 16, sums[n]);
        }
        wait_for_group(group);
        u32 of_gates[REPEAT][2][4];
        UNROLL
        for (u32 r = 0; r < REPEAT; r++) {
            float sums[4] = {low(of_hidden[r][0]), high(of_hidden[r][0]), low(of_hidden[r][1]), high(of_hidden[r][1])};
            UNROLL
            for (u32 n = 0; n < PARTS; n++)
                add_sums(parts + ((((group * REPEAT + r) * PARTS + part) * PARTS + n) * 32 + lane) * 16, sums);
            UNROLL
            for (u32 e = 0; e < 2; e++) {
                float of[4][2];
                UNROLL
                for (u32 c = 0; c < 2; c++) {
                    const u32 *both = active[r][e];
                    const float i = c ? high(both[0]) : low(both[0]), f = c ? high(both[1]) : low(both[1]);
                    const float o = c ? high(both[2]) : low(both[2]), g = c ? high(both[3]) : low(both[3]);
                    const float of_h = sums[2 * e + c], out = tanh_fast(cell[r][e].at[c]);
                    const float of_c = of_cell[r][e].at[c] + of_h * o * (1 - out * out);
                    of[0][c] = of_c * g * i * (1 - i);
                    of[1][c] = of_c * before[r][e].at[c] * f * (1 - f);
                    of[2][c] = of_h * out * o * (1 - o);
                    of[3][c] = of_c * i * (1 - g * g);
                    of_cell[r][e].at[c] = of_c * f;
                }
                cell[r][e] = before[r][e];
                UNROLL
                for (u32 q = 0; q < 4; q++) {
                    of_gates[r][e][q] = pair(of[q][0], of[q][1]);
                    share(&at, r, e, mine + to, above + to, below + to, GATES, q * GATE + part * 16 + lane % 4 * 4, of_gates[r][e][q]);
                }
            }
        }
        arrive();
        UNROLL
        for (u32 r = 0; r < REPEAT; r++)
            UNROLL
            for (u32 e = 0; e < 2; e++)
                if (at.inside[r][e]) {
                    UNROLL
                    for (u32 q = 0; q < 4; q++)
                        grad_gates[frame * 4 * frame_size + at.gate[r][e] + q * PAIRS] = of_gates[r][e][q];
                    if (step + 1 == steps)
                        continue;
                    const size_t state = next * frame_size + at.state[r][e];
                    UNROLL
                    for (u32 q = 0; q < 4; q++)
                        active[r][e][q] = gates[next * 4 * frame_size + at.gate[r][e] + q * PAIRS];
                    of_hidden[r][e] = grad_hidden[state];
                    before[r][e] = cells[state + (REVERSE ? frame_size : 0)];
                }
        wait();
    }
    UNROLL
    for (u32 r = 0; r < REPEAT; r++)
        UNROLL
        for (u32 e = 0; e < 2; e++)
            if (at.inside[r][e])
                grad_cell[at.state[r][e]] = of_cell[r][e];
}

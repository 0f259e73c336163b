// ConvLSTM with kernels of 3 x 3: all steps of a layer in one launch, on clusters of multiprocessors.
//
// A block of threads takes an image, or a band of its rows, through all steps; the blocks of one image are a cluster. The
// weights and the cell stay in registers. The hidden state lies in shared memory twice, for the step that reads it and the
// one that writes it, with a margin of one pixel: zeros outside the image, else the rows next to the band, which the
// block above or below sends from its own multiprocessor. A block waits for these rows alone: each store that is sent
// counts its bytes in a barrier of the receiver. There is a barrier for even and one for odd steps, since a neighbour may be
// one step ahead, but no more: to go on it needs this block's rows. For the same reason a margin is not overwritten before
// the warps that read it have sent their own pixels.
//
// Products have 16 pixels ("a tile") x 16 channels of one neighbour, in bfloat16 with sums in float32, by `mma.sync`. The
// rows of their left factor are pixels of the shared state, at addresses that differ by neighbour only by a constant:
// nothing is copied. A warp computes all four gates of eight channels, so that one thread has the four gates of a pixel
// and channel.
//
// Backward, a step multiplies the gradients of the gates of the nine neighbours, [pixels, 9 x 4 x HIDDEN], by the weights.
// The warps of a tile share the sum, each by the gates of its eight channels, and add their parts through shared memory.
//
// Fixed by the preprocessor: HIDDEN (16 or 32), HEIGHT, WIDTH, ROWS and BANDS (rows of a band, bands of an image), REPEAT
// (tiles of a warp), REVERSE, KEEP. Arrays: `gates` [step, image, pixel, HIDDEN, gate] with the gates i, f, o, g of a
// channel side by side; `hidden` and `cells` [step + 1, image, pixel, HIDDEN]; pairs of bfloat16 are one u32. `weight` has
// the right factors in the order in which lanes hold them (`convlstm_cluster.pack`).
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
// Sums of a tile that are formed side by side backward, since a product waits for the one before in its sum.
#define CHAINS (REPEAT > 1 ? 1 : 2)

// Bytes. Pixels are 16 bytes further apart than they need, so that eight rows of a product lie in different banks.
#define STATE (2 * HIDDEN + 16)
#define STATES ((ROWS + 2) * PADDED * STATE)
#define GATES (8 * HIDDEN + 16)
#define ALL_GATES ((ROWS + 2) * PADDED * GATES)
// The two barriers, at the start of shared memory.
#define BARRIERS 16

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
} __attribute__((aligned(16))) Four;

extern __shared__ __align__(16) unsigned char block_memory[];

// Address of the block's shared memory, as the instructions below take it.
INLINE u32 shared_memory(void) { return (u32)__cvta_generic_to_shared(block_memory); }

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

// Sends to another block, whose barrier counts the bytes.
INLINE void send(u32 address, u32 value, u32 barrier) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address), "r"(value), "r"(barrier) : "memory");
}

INLINE void store_four(u32 address, Four x) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x.at[0]), "r"(x.at[1]), "r"(x.at[2]), "r"(x.at[3]) : "memory");
}

INLINE void send_four(u32 address, Four x, u32 barrier) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(address), "r"(x.at[0]),
                 "r"(x.at[1]), "r"(x.at[2]), "r"(x.at[3]), "r"(barrier)
                 : "memory");
}

// A barrier of one thread that says how many bytes will come, and of these bytes.
INLINE void make_barrier(u32 barrier) { asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory"); }

INLINE void expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// `turn` is 0 for the first use of a barrier, 1 for the second, and so on in turns.
INLINE void wait_for_bytes(u32 barrier, u32 turn) {
    u32 done = 0;
    while (!done)
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(barrier), "r"(turn)
                     : "memory");
    __syncwarp();
}

// Left factor of a product: 16 rows of 16 numbers; each lane gives the address of eight numbers of a row.
INLINE Four load_rows(u32 address) {
    Four x;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.at[0]), "=r"(x.at[1]), "=r"(x.at[2]), "=r"(x.at[3])
                 : "r"(address)
                 : "memory");
    return x;
}

// Adds a product of [16, 16] by [16, 8]. Of its sums a lane has rows lane / 4 and that plus 8, columns lane % 4 * 2 and the next.
INLINE void multiply(float *sums, Four a, const u32 *b) {
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

// Waits until all blocks of the cluster are ready to receive.
INLINE void wait_for_cluster(void) {
#if BANDS > 1
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
}

INLINE void wait_for_block(void) { __syncthreads(); }

// Barrier of the warps that share tiles.
INLINE void wait_for_group(u32 group) { asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(32 * PARTS) : "memory"); }
#endif

INLINE float sigmoid(float x) { return 0.5f + 0.5f * tanh_fast(0.5f * x); }

// Two numbers that are read and written at once, as are those of Four.
typedef struct {
    float at[2];
} __attribute__((aligned(8))) Two;

// Pixels of the block's band that a thread has in its tiles, two in each: rows lane / 4 and that plus 8 of the product.
typedef struct {
    u32 inside[REPEAT][2];    // whether they are pixels of the image
    u32 state[REPEAT][2];     // the thread's two channels in arrays, in pairs
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
            at.above[r][e] = at.inside[r][e] && y == 0 && band > 0;
            at.below[r][e] = at.inside[r][e] && y == ROWS - 1 && (band + 1) * ROWS < HEIGHT;
        }
    }
    return at;
}

// A block with what it sends to: itself, and the blocks above and below.
typedef struct {
    u32 mine, above, below;
    u32 pixels;    // that neighbours send to it in a step
} Memory;

INLINE Memory memory_of(u32 band) {
    Memory at;
    at.mine = shared_memory();
    at.above = in_block(at.mine, band > 0 ? band - 1 : band);
    at.below = in_block(at.mine, band + 1 < BANDS ? band + 1 : band);
    at.pixels = ((band > 0 && band * ROWS < HEIGHT) + ((band + 1) * ROWS < HEIGHT)) * WIDTH;
    return at;
}

// End of a step: all threads have stored, and the neighbours' rows have come.
INLINE void end_step(const Memory *at, int step) {
    wait_for_block();
#if BANDS > 1
    wait_for_bytes(at->mine + step % 2 * 8, step / 2 % 2);
#endif
}

INLINE void begin_step(const Memory *at, int step, u32 pixel_bytes) {
#if BANDS > 1
    if (THREAD == 0)
        expect(at->mine + step % 2 * 8, at->pixels * pixel_bytes);
#endif
}

KERNEL forward(Four *gates, u32 *hidden, Two *cells, const u32 *weight, int steps, int batch) {
    const u32 lane = THREAD % 32, part = THREAD / 32 % PARTS, group = THREAD / 32 / PARTS;
    const u32 image = BLOCK / BANDS, band = BLOCK % BANDS;
    const size_t frame_size = (size_t)batch * IMAGE * PAIRS;
    const Memory memory = memory_of(band);
    const Place at = place(band, group, part, lane);
    gates += (size_t)image * IMAGE * PAIRS;
    hidden += (size_t)image * IMAGE * PAIRS;
    cells += (size_t)image * IMAGE * PAIRS;

    u32 weights[9 * CHUNKS][4][2];
    UNROLL
    for (u32 k = 0; k < 9 * CHUNKS; k++) {
        const u32 *from = weight + ((part * 9 * CHUNKS + k) * 32 + lane) * 8;
        load_weights(from, weights[k][0]);
        load_weights(from + 4, weights[k][2]);
    }
    const u32 states = memory.mine + BARRIERS;
    for (u32 k = THREAD; k < 2 * STATES / 4; k += THREADS)
        store(states + 4 * k, 0);
    wait_for_block();
    const size_t start = REVERSE ? steps : 0;
    for (u32 k = THREAD; k < (ROWS + 2) * WIDTH * PAIRS; k += THREADS) {
        const int pixel = k / PAIRS, y = (int)(band * ROWS) + pixel / WIDTH - 1;
        if (y >= 0 && y < HEIGHT)
            store(states + (pixel / WIDTH * PADDED + pixel % WIDTH + 1) * STATE + k % PAIRS * 4,
                  hidden[start * frame_size + (size_t)(y * WIDTH + pixel % WIDTH) * PAIRS + k % PAIRS]);
    }
    const Two no_cell = {{0, 0}};
    const Four no_input = {{0, 0, 0, 0}};
    Two cell[REPEAT][2];
    Four input[REPEAT][2];
    UNROLL
    for (u32 r = 0; r < REPEAT; r++)
        UNROLL
        for (u32 e = 0; e < 2; e++) {
            cell[r][e] = at.inside[r][e] ? cells[(KEEP ? start : 0) * frame_size + at.state[r][e]] : no_cell;
            input[r][e] = at.inside[r][e] ? gates[(REVERSE ? steps - 1 : 0) * frame_size + at.state[r][e]] : no_input;
        }
    if (THREAD < 2)
        make_barrier(memory.mine + THREAD * 8);
    wait_for_cluster();
    for (int step = 0; step < steps; step++) {
        const size_t frame = REVERSE ? steps - 1 - step : step, next = REVERSE ? frame - 1 : frame + 1;
        const size_t after = REVERSE ? frame : frame + 1;
        const u32 from = BARRIERS + step % 2 * STATES, to = BARRIERS + (step + 1) % 2 * STATES;
        const u32 barrier = step % 2 * 8;
        begin_step(&memory, step, 2 * HIDDEN);
        // Products of all tiles in turns, since a product waits for the one before in its sum.
        float sums[REPEAT][4][4];
        UNROLL
        for (u32 r = 0; r < REPEAT; r++) {
            UNROLL
            for (u32 e = 0; e < 2; e++) {
                UNROLL
                for (u32 c = 0; c < 2; c++) {
                    sums[r][0][2 * e + c] = low(input[r][e].at[2 * c]);
                    sums[r][1][2 * e + c] = high(input[r][e].at[2 * c]);
                    sums[r][2][2 * e + c] = low(input[r][e].at[2 * c + 1]);
                    sums[r][3][2 * e + c] = high(input[r][e].at[2 * c + 1]);
                }
                // Memory answers later than a product takes.
                if (step + 1 < steps && at.inside[r][e])
                    input[r][e] = gates[next * frame_size + at.state[r][e]];
            }
        }
        const u32 states_from = memory.mine + from + lane / 16 * 16;
        UNROLL
        for (int tap = 0; tap < 9; tap++)
            UNROLL
            for (u32 chunk = 0; chunk < CHUNKS; chunk++)
                UNROLL
                for (u32 r = 0; r < REPEAT; r++) {
                    const u32 row = states_from + at.row[r] * STATE;
                    const Four a = load_rows(row + ((tap / 3 - 1) * PADDED + tap % 3 - 1) * STATE + chunk * 32);
                    UNROLL
                    for (u32 q = 0; q < 4; q++)
                        multiply(sums[r][q], a, weights[tap * CHUNKS + chunk][q]);
                }
        UNROLL
        for (u32 r = 0; r < REPEAT; r++)
            UNROLL
            for (u32 e = 0; e < 2; e++) {
                Four active;
                float out[2];
                UNROLL
                for (u32 c = 0; c < 2; c++) {
                    const float i = sigmoid(sums[r][0][2 * e + c]), f = sigmoid(sums[r][1][2 * e + c]);
                    const float o = sigmoid(sums[r][2][2 * e + c]), g = tanh_fast(sums[r][3][2 * e + c]);
                    cell[r][e].at[c] = f * cell[r][e].at[c] + i * g;
                    out[c] = o * tanh_fast(cell[r][e].at[c]);
                    active.at[2 * c] = pair(i, f);
                    active.at[2 * c + 1] = pair(o, g);
                }
                if (!at.inside[r][e])
                    continue;
                const u32 h = pair(out[0], out[1]);
                const u32 pixel = to + at.shared[r][e] * STATE + part * 16 + lane % 4 * 4;
                store(memory.mine + pixel, h);
#if BANDS > 1
                if (at.above[r][e])
                    send(memory.above + pixel + ROWS * PADDED * STATE, h, memory.above + barrier);
                if (at.below[r][e])
                    send(memory.below + pixel - ROWS * PADDED * STATE, h, memory.below + barrier);
#endif
                hidden[after * frame_size + at.state[r][e]] = h;
                if (KEEP || step + 1 == steps)
                    cells[(KEEP ? after : 0) * frame_size + at.state[r][e]] = cell[r][e];
                if (KEEP)
                    gates[frame * frame_size + at.state[r][e]] = active;
            }
        end_step(&memory, step);
    }
}

KERNEL backward(const Four *gates, const Two *cells, const u32 *grad_hidden, Two *grad_cell, Four *grad_gates,
                const u32 *weight, int steps, int batch) {
    const u32 lane = THREAD % 32, part = THREAD / 32 % PARTS, group = THREAD / 32 / PARTS;
    const u32 image = BLOCK / BANDS, band = BLOCK % BANDS;
    const size_t frame_size = (size_t)batch * IMAGE * PAIRS;
    const Memory memory = memory_of(band);
    const u32 parts = memory.mine + BARRIERS + 2 * ALL_GATES;
    const Place at = place(band, group, part, lane);
    gates += (size_t)image * IMAGE * PAIRS;
    grad_gates += (size_t)image * IMAGE * PAIRS;
    grad_hidden += (size_t)image * IMAGE * PAIRS;
    cells += (size_t)image * IMAGE * PAIRS;
    grad_cell += (size_t)image * IMAGE * PAIRS;

    // Two products for each neighbour: of the four gates of eight channels.
    u32 weights[18][PARTS][2];
    UNROLL
    for (u32 k = 0; k < 18; k++) {
        const u32 *from = weight + ((part * 18 + k) * 32 + lane) * (2 * PARTS);
        UNROLL
        for (u32 n = 0; n < PARTS; n += 2)
            load_weights(from + 2 * n, weights[k][n]);
    }
    for (u32 k = THREAD; k < 2 * ALL_GATES / 4; k += THREADS)
        store(memory.mine + BARRIERS + 4 * k, 0);

    // Of a frame: its gates, the cell before it and the gradient of its output, read a step ahead.
    const Two no_cell = {{0, 0}};
    const Four no_gates = {{0, 0, 0, 0}};
    Four active[REPEAT][2];
    u32 of_hidden[REPEAT][2];
    Two cell[REPEAT][2], before[REPEAT][2], of_cell[REPEAT][2];
    const size_t last = REVERSE ? 0 : steps, of_before = REVERSE ? frame_size : 0;
    UNROLL
    for (u32 r = 0; r < REPEAT; r++)
        UNROLL
        for (u32 e = 0; e < 2; e++) {
            const u32 inside = at.inside[r][e];
            const size_t state = (REVERSE ? 0 : steps - 1) * frame_size + at.state[r][e];
            active[r][e] = inside ? gates[state] : no_gates;
            of_hidden[r][e] = inside ? grad_hidden[state] : 0;
            cell[r][e] = inside ? cells[last * frame_size + at.state[r][e]] : no_cell;
            before[r][e] = inside ? cells[state + of_before] : no_cell;
            of_cell[r][e] = inside ? grad_cell[at.state[r][e]] : no_cell;
        }
    if (THREAD < 2)
        make_barrier(memory.mine + THREAD * 8);
    wait_for_cluster();
    for (int step = 0; step < steps; step++) {
        const size_t frame = REVERSE ? step : steps - 1 - step, next = REVERSE ? frame + 1 : frame - 1;
        const u32 from = BARRIERS + step % 2 * ALL_GATES, to = BARRIERS + (step + 1) % 2 * ALL_GATES;
        const u32 barrier = step % 2 * 8;
        begin_step(&memory, step, 8 * HIDDEN);
        float sums[REPEAT][CHAINS][PARTS][4] = {{{{0}}}};
        const u32 gates_from = memory.mine + from + lane / 16 * 16 + part * 64;
        UNROLL
        for (int tap = 0; tap < 9; tap++)
            UNROLL
            for (u32 chunk = 0; chunk < 2; chunk++)
                UNROLL
                for (u32 r = 0; r < REPEAT; r++) {
                    // The gates at p - d took this pixel as their neighbour at d.
                    const u32 row = gates_from + at.row[r] * GATES - ((tap / 3 - 1) * PADDED + tap % 3 - 1) * GATES;
                    const Four a = load_rows(row + chunk * 32);
                    UNROLL
                    for (u32 n = 0; n < PARTS; n++)
                        multiply(sums[r][(tap * 2 + chunk) % CHAINS][n], a, weights[tap * 2 + chunk][n]);
                }
        UNROLL
        for (u32 r = 0; r < REPEAT; r++)
            UNROLL
            for (u32 n = 0; n < PARTS; n++) {
                UNROLL
                for (u32 k = 4; k < 4 * CHAINS; k++)
                    sums[r][0][n][k % 4] += sums[r][k / 4][n][k % 4];
                store_sums(parts + ((((group * REPEAT + r) * PARTS + n) * PARTS + part) * 32 + lane) * 16, sums[r][0][n]);
            }
        wait_for_group(group);
        UNROLL
        for (u32 r = 0; r < REPEAT; r++) {
            float of_out[4] = {low(of_hidden[r][0]), high(of_hidden[r][0]), low(of_hidden[r][1]), high(of_hidden[r][1])};
            UNROLL
            for (u32 n = 0; n < PARTS; n++)
                add_sums(parts + ((((group * REPEAT + r) * PARTS + part) * PARTS + n) * 32 + lane) * 16, of_out);
            UNROLL
            for (u32 e = 0; e < 2; e++) {
                if (!at.inside[r][e])
                    continue;
                Four of_gates;
                UNROLL
                for (u32 c = 0; c < 2; c++) {
                    const u32 i_f = active[r][e].at[2 * c], o_g = active[r][e].at[2 * c + 1];
                    const float i = low(i_f), f = high(i_f), o = low(o_g), g = high(o_g);
                    const float of_h = of_out[2 * e + c], out = tanh_fast(cell[r][e].at[c]);
                    const float of_c = of_cell[r][e].at[c] + of_h * o * (1 - out * out);
                    of_gates.at[2 * c] = pair(of_c * g * i * (1 - i), of_c * before[r][e].at[c] * f * (1 - f));
                    of_gates.at[2 * c + 1] = pair(of_h * out * o * (1 - o), of_c * i * (1 - g * g));
                    of_cell[r][e].at[c] = of_c * f;
                }
                cell[r][e] = before[r][e];
                const u32 pixel = to + at.shared[r][e] * GATES + part * 64 + lane % 4 * 16;
                store_four(memory.mine + pixel, of_gates);
#if BANDS > 1
                if (at.above[r][e])
                    send_four(memory.above + pixel + ROWS * PADDED * GATES, of_gates, memory.above + barrier);
                if (at.below[r][e])
                    send_four(memory.below + pixel - ROWS * PADDED * GATES, of_gates, memory.below + barrier);
#endif
                grad_gates[frame * frame_size + at.state[r][e]] = of_gates;
                if (step + 1 == steps)
                    continue;
                const size_t state = next * frame_size + at.state[r][e];
                active[r][e] = gates[state];
                of_hidden[r][e] = grad_hidden[state];
                before[r][e] = cells[state + of_before];
            }
        }
        end_step(&memory, step);
    }
    UNROLL
    for (u32 r = 0; r < REPEAT; r++)
        UNROLL
        for (u32 e = 0; e < 2; e++)
            if (at.inside[r][e])
                grad_cell[at.state[r][e]] = of_cell[r][e];
}

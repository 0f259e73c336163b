// Runs modeling/network/convlstm_cluster.cu on a CPU: each thread of a cluster is a context of its own, and one of those
// that wait for nobody goes on, drawn at random, whenever a thread meets others. What blocks send to each other arrives late,
// in random order. So a missing barrier shows as a wrong result in some order. Products are in float32 of bfloat16 values, as on a GPU; `tanh` is exact.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define ON_CPU
#define INLINE static inline
#define KERNEL static void
#define UNROLL
#define THREAD (now->thread)
#define BLOCK (now->block)

typedef uint32_t u32;
typedef struct {
    u32 at[4];
} Four;

enum { STACK = 1 << 16, RANK_SHIFT = 24, MOST_THREADS = 8 * 256, MOST_SENT = 1 << 16 };
enum { FAILED_TO_END = 1, OUT_OF_BOUNDS = 2 };

typedef struct Meeting Meeting;
typedef struct {
    ucontext_t context;
    u32 thread, block;
} Thread;
// Threads that wait for each other.
struct Meeting {
    u32 arrived, num_waiting;
    Thread *waiting[MOST_THREADS];
};
// What lanes of a warp show each other, in two places that are used in turn.
typedef struct {
    Meeting meeting;
    u32 count[32], address[2][32], b[2][32][2];
    Four a[2][32];
} Warp;
// Counts one arrival and bytes, which may come before it is known how many there will be.
typedef struct {
    int arrivals, bytes;
    u32 turn;
    Meeting waiting;
} Barrier;
typedef struct {
    unsigned char *memory;
    Meeting all, groups[16];
    Warp warps[8];
    Barrier barriers[2];
} Block;
typedef struct {
    u32 address, barrier, bytes;
    Four value;
} Sent;

static Thread *now, *ready[MOST_THREADS], threads[MOST_THREADS];
static Block blocks[8];
static Meeting cluster;
static ucontext_t scheduler;
static Sent sent[MOST_SENT];
static u32 num_ready, num_ended, num_sent, shared_bytes, fault;
static uint64_t draws;

static void sleep_in(Meeting *meeting) {
    meeting->waiting[meeting->num_waiting++] = now;
    swapcontext(&now->context, &scheduler);
}

static void wake(Meeting *meeting) {
    while (meeting->num_waiting)
        ready[num_ready++] = meeting->waiting[--meeting->num_waiting];
}

static void meet(Meeting *meeting, u32 members) {
    if (++meeting->arrived < members) {
        sleep_in(meeting);
        return;
    }
    meeting->arrived = 0;
    wake(meeting);
}

static u32 drawn(u32 below) {
    draws = draws * 6364136223846793005u + 1442695040888963407u;
    return (draws >> 33) % below;
}

static Block *block_of(u32 rank) { return &blocks[rank % 8]; }

static void *memory_at(u32 address, u32 size) {
    const u32 offset = address & ((1u << RANK_SHIFT) - 1);
    if (offset + size <= shared_bytes && offset % (size > 16 ? 16 : size) == 0)
        return block_of(address >> RANK_SHIFT)->memory + offset;
    fault |= OUT_OF_BOUNDS;
    return block_of(0)->memory;
}

#define MY_RANK (now->block % BANDS)
#define MY_WARP (&block_of(MY_RANK)->warps[now->thread / 32])
#define MY_LANE (now->thread % 32)

INLINE u32 shared_memory(void) { return MY_RANK << RANK_SHIFT; }

INLINE u32 in_block(u32 address, u32 rank) { return (address & ((1u << RANK_SHIFT) - 1)) | rank << RANK_SHIFT; }

INLINE void store(u32 address, u32 value) {
    fault |= address >> RANK_SHIFT == MY_RANK ? 0 : OUT_OF_BOUNDS;
    memcpy(memory_at(address, 4), &value, 4);
}

INLINE void store_four(u32 address, Four x) {
    fault |= address >> RANK_SHIFT == MY_RANK ? 0 : OUT_OF_BOUNDS;
    memcpy(memory_at(address, 16), &x, 16);
}

static Barrier *barrier_at(u32 address) {
    const u32 offset = address & ((1u << RANK_SHIFT) - 1);
    fault |= offset == 0 || offset == 8 ? 0 : OUT_OF_BOUNDS;
    return &block_of(address >> RANK_SHIFT)->barriers[offset / 8 % 2];
}

static void count(u32 address, int arrivals, int bytes) {
    Barrier *barrier = barrier_at(address);
    barrier->arrivals -= arrivals, barrier->bytes += bytes;
    if (barrier->arrivals || barrier->bytes)
        return;
    barrier->arrivals = 1, barrier->turn++;
    wake(&barrier->waiting);
}

static void deliver(u32 which) {
    const Sent got = sent[which];
    sent[which] = sent[--num_sent];
    memcpy(memory_at(got.address, got.bytes), &got.value, got.bytes);
    count(got.barrier, 0, -(int)got.bytes);
}

static void send_bytes(u32 address, Four x, u32 barrier, u32 bytes) {
    if (num_sent == MOST_SENT)
        deliver(drawn(num_sent));
    sent[num_sent++] = (Sent){address, barrier, bytes, x};
}

INLINE void send(u32 address, u32 value, u32 barrier) { send_bytes(address, (Four){{value}}, barrier, 4); }

INLINE void send_four(u32 address, Four x, u32 barrier) { send_bytes(address, x, barrier, 16); }

INLINE void make_barrier(u32 address) { barrier_at(address)->arrivals = 1; }

INLINE void expect(u32 address, u32 bytes) { count(address, 1, bytes); }

INLINE void wait_for_bytes(u32 address, u32 turn) {
    while (barrier_at(address)->turn % 2 == turn)
        sleep_in(&barrier_at(address)->waiting);
}

INLINE void store_sums(u32 address, const float *x) { memcpy(memory_at(address, 16), x, 16); }

INLINE void add_sums(u32 address, float *x) {
    float more[4];
    memcpy(more, memory_at(address, 16), 16);
    for (int k = 0; k < 4; k++)
        x[k] += more[k];
}

INLINE Four load_rows(u32 address) {
    Warp *warp = MY_WARP;
    const u32 turn = warp->count[MY_LANE]++ % 2;
    warp->address[turn][MY_LANE] = address;
    meet(&warp->meeting, 32);
    Four x;
    for (u32 k = 0; k < 4; k++)
        memcpy(&x.at[k], (unsigned char *)memory_at(warp->address[turn][8 * k + MY_LANE / 4], 16) + MY_LANE % 4 * 4, 4);
    return x;
}

INLINE float number(u32 bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

INLINE float low(u32 both) { return number(both << 16); }

INLINE float high(u32 both) { return number(both & 0xffff0000u); }

INLINE void multiply(float *sums, Four a, const u32 *b) {
    Warp *warp = MY_WARP;
    const u32 turn = warp->count[MY_LANE]++ % 2;
    warp->a[turn][MY_LANE] = a;
    memcpy(warp->b[turn][MY_LANE], b, 8);
    meet(&warp->meeting, 32);
    for (u32 sum = 0; sum < 4; sum++)
        for (u32 k = 0; k < 16; k++) {
            const u32 left = warp->a[turn][MY_LANE / 4 * 4 + k % 8 / 2].at[sum / 2 + k / 8 * 2];
            const u32 right = warp->b[turn][(MY_LANE % 4 * 2 + sum % 2) * 4 + k % 8 / 2][k / 8];
            sums[sum] += k % 2 ? high(left) * high(right) : low(left) * low(right);
        }
}

INLINE void load_weights(const u32 *weight, u32 *to) { memcpy(to, weight, 16); }

INLINE float tanh_fast(float x) { return tanhf(x); }

INLINE u32 pair(float low_one, float high_one) {
    u32 bits[2];
    memcpy(&bits[0], &low_one, 4), memcpy(&bits[1], &high_one, 4);
    for (int k = 0; k < 2; k++)
        bits[k] = (bits[k] + 0x7fff + (bits[k] >> 16 & 1)) >> 16;
    return bits[1] << 16 | bits[0];
}

static void wait_for_cluster(void);
static void wait_for_block(void);
static void wait_for_group(u32 group);

#include "convlstm_cluster.cu"

static void wait_for_cluster(void) { meet(&cluster, THREADS * BANDS); }

static void wait_for_block(void) { meet(&block_of(MY_RANK)->all, THREADS); }

static void wait_for_group(u32 group) { meet(&block_of(MY_RANK)->groups[group + 1], 32 * PARTS); }

static struct {
    void *at[6];
    int backward, steps, batch;
} arguments;

static void thread_body(void) {
    void **at = arguments.at;
    if (arguments.backward)
        backward(at[0], at[1], at[2], at[3], at[4], at[5], arguments.steps, arguments.batch);
    else
        forward(at[0], at[1], at[2], at[3], arguments.steps, arguments.batch);
    num_ended++;
    // Never resumed.
    swapcontext(&now->context, &scheduler);
}

// Runs all clusters of a launch, one after another; returns what went wrong, 0 if nothing.
int run(int backwards, void **at, int steps, int batch, int bytes, int seed) {
    arguments.backward = backwards, arguments.steps = steps, arguments.batch = batch;
    memcpy(arguments.at, at, (backwards ? 6 : 4) * sizeof(void *));
    shared_bytes = bytes, fault = 0, draws = (uint64_t)seed * 2 + 1;
    char *stacks = malloc((size_t)THREADS * BANDS * STACK);
    for (u32 image = 0; image < (u32)batch && !fault; image++) {
        memset(&cluster, 0, sizeof cluster);
        memset(blocks, 0, sizeof blocks);
        num_ready = num_ended = num_sent = 0;
        for (u32 k = 0; k < THREADS * BANDS; k++) {
            Thread *thread = &threads[k];
            getcontext(&thread->context);
            thread->context.uc_stack.ss_sp = stacks + (size_t)k * STACK;
            thread->context.uc_stack.ss_size = STACK;
            makecontext(&thread->context, thread_body, 0);
            thread->thread = k % THREADS, thread->block = image * BANDS + k / THREADS;
            ready[num_ready++] = thread;
        }
        for (u32 rank = 0; rank < BANDS; rank++) {
            blocks[rank].memory = malloc(bytes);
            memset(blocks[rank].memory, 0xff, bytes);  // NaN: what is read must have been written
        }
        while (num_ready || num_sent) {
            if (num_sent && (!num_ready || !drawn(4))) {
                deliver(drawn(num_sent));
                continue;
            }
            const u32 chosen = drawn(num_ready);
            now = ready[chosen];
            ready[chosen] = ready[--num_ready];
            swapcontext(&scheduler, &now->context);
        }
        fault |= num_ended == THREADS * BANDS ? 0 : FAILED_TO_END;
        for (u32 rank = 0; rank < BANDS; rank++)
            free(blocks[rank].memory);
    }
    free(stacks);
    return fault;
}

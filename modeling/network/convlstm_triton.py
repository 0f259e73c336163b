"""Triton kernels of `convlstm_gpu`: all steps of a ConvLSTM layer, forward and backward, in one launch.

A program takes one image, or a band of its rows, through all steps. Its cell stays in registers and the weights in
shared memory; the hidden state goes through memory, whose cache holds it, since a program needs that of its neighbours.
Each step is one product of nine neighbours by the weights, [pixels, taps x H] x [taps x H, 4 H].

Images of several bands run at once and wait for each other's rows (`_wait_for_neighbours`): the launch must be
cooperative, which fails where not all programs fit on the device at once.

A kernel of one pixel (ALONE) has no neighbours: programs wait for nobody, so BANDS is 1, however many there are, and
the hidden state stays in registers, too.

Arrays are contiguous: `gates` [step, image, pixel, gate, H] with the gates in the order i, f, o, g; `hidden` and
`cells` [step + 1, image, pixel, H], before the first step and after each, in the order of the input; `peephole`
[3, pixel, H]; `flags` [image, band], zeros; `weight` [neighbour, WIDE, 4, WIDE] in the type of `hidden`, with zeros for
the neighbours and channels that only fill it. Programs take images from `first` on. WIDE is H rounded up to a power of
two, and TAPS the neighbours of one product. Sums are in float32, and products in the type of `hidden`.
"""

import triton
import triton.language as tl

# Arguments whose values need no kernels of their own.
NUMBERS = ["first", "steps", "batch", "height", "width", "rows"]


@triton.jit
def _sigmoid(x, FAST: tl.constexpr):
    if FAST:
        y = 0.5 + 0.5 * _tanh(0.5 * x, FAST)
    else:
        y = 1 / (1 + tl.exp(-x))
    return y


@triton.jit
def _tanh(x, FAST: tl.constexpr):
    # FAST is one instruction with an error of 5e-4, an eighth of bfloat16's; the exact one takes two of its kind and a
    # division.
    if FAST:
        y = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    else:
        y = 2 / (1 + tl.exp(-2 * x)) - 1
    return y


@triton.jit
def _weights(weight, first, WIDE: tl.constexpr, TAPS: tl.constexpr):
    """Weights of the TAPS neighbours from `first` on, [TAPS x WIDE, 4 x WIDE]."""
    row, column = first * WIDE + tl.arange(0, TAPS * WIDE), tl.arange(0, 4 * WIDE)
    return tl.load(weight + row[:, None] * (4 * WIDE) + column[None, :])


@triton.jit
def _peepholes(peephole, size, state_at, state_inside):
    """Peephole weights of the gates i, f and o, each of `size` numbers, at some states."""
    i = tl.load(peephole + state_at, mask=state_inside, other=0.0)
    f = tl.load(peephole + size + state_at, mask=state_inside, other=0.0)
    o = tl.load(peephole + 2 * size + state_at, mask=state_inside, other=0.0)
    return i, f, o


@triton.jit
def _wait(flag, steps, FAST: tl.constexpr):
    if FAST:
        # Every thread reads for itself, and has then acquired what was written; an atomic operation is passed on
        # through shared memory.
        while _acquired(flag) < steps:
            pass
    else:
        while tl.atomic_add(flag, 0, sem="acquire") < steps:
            pass


@triton.jit
def _acquired(flag):
    return tl.inline_asm_elementwise(
        "ld.acquire.gpu.global.b32 $0, [$1];", "=r,l", [flag.to(tl.uint64)], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def _wait_for_neighbours(flags, band, steps, BANDS: tl.constexpr, FAST: tl.constexpr):
    """Waits until the bands above and below have done `steps` steps, and their writes can be read."""
    if band > 0:
        _wait(flags + band - 1, steps, FAST)
    if band + 1 < BANDS:
        _wait(flags + band + 1, steps, FAST)
    tl.debug_barrier()


@triton.jit
def _finish_step(flags, band, steps, BANDS: tl.constexpr):
    """Makes the writes of this step visible to all threads of this program, and to its neighbours."""
    tl.debug_barrier()
    if BANDS > 1:
        tl.atomic_xchg(flags + band, steps, sem="release")


@triton.jit(do_not_specialize=NUMBERS)
def forward(
    gates,
    hidden,
    cells,
    weight,
    peephole,
    flags,
    first,
    steps,
    batch,
    height,
    width,
    rows,
    H: tl.constexpr,
    WIDE: tl.constexpr,
    TAPS: tl.constexpr,
    PIXELS: tl.constexpr,
    BANDS: tl.constexpr,
    ALONE: tl.constexpr,
    REVERSE: tl.constexpr,
    KEEP: tl.constexpr,
    PEEPHOLE: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Hidden states of all steps from the input's part of the gates, which the activated gates replace if KEEP.

    Without KEEP `cells` is one state, [image, pixel, H], which is replaced by the last.
    """
    image, band = (first + tl.program_id(0)).to(tl.int64), tl.program_id(1)
    GROUPS: tl.constexpr = 1 if ALONE else (9 + TAPS - 1) // TAPS
    # Rows of other programs never from the first cache, which is not kept coherent.
    CACHE: tl.constexpr = ".cg" if BANDS > 1 else ""
    KIND: tl.constexpr = hidden.dtype.element_ty
    pixels = height * width
    pixel = band * rows * width + tl.arange(0, PIXELS)
    valid = pixel < tl.minimum((band + 1) * rows * width, pixels)
    y, x = pixel // width, pixel % width
    channel = tl.arange(0, WIDE)
    state_at = pixel[:, None] * H + channel[None, :]
    state_inside = valid[:, None] & (channel < H)[None, :]
    column = tl.arange(0, 4 * WIDE)
    gates_at = pixel[:, None] * (4 * H) + (column // WIDE * H + column % WIDE)[None, :]
    gates_inside = valid[:, None] & (column % WIDE < H)[None, :]
    row = tl.arange(0, TAPS * WIDE)
    weights = ()
    for group in tl.static_range(GROUPS):
        weights = weights + (_weights(weight, group * TAPS, WIDE, TAPS),)
    if PEEPHOLE:
        peep_i, peep_f, peep_o = _peepholes(peephole, pixels * H, state_at, state_inside)
    frame_size = batch.to(tl.int64) * pixels * H
    gates += image * pixels * 4 * H
    hidden += image * pixels * H
    cells += image * pixels * H
    flags += image * BANDS
    cell = tl.load(cells + (steps * frame_size if KEEP and REVERSE else 0) + state_at, mask=state_inside, other=0.0)
    h = tl.load(hidden + (steps * frame_size if REVERSE else 0) + state_at, mask=state_inside, other=0.0)
    for step in range(steps):
        frame = steps - 1 - step if REVERSE else step
        before, after = (frame + 1, frame) if REVERSE else (frame, frame + 1)
        # Before the wait, which it does not depend on.
        of_input = tl.load(gates + frame * 4 * frame_size + gates_at, mask=gates_inside, other=0.0)
        if BANDS > 1:
            _wait_for_neighbours(flags, band, step, BANDS, FAST)
        near = ()
        if ALONE:
            near = near + (h,)
        else:
            # All loads before the first product, so that they are under way together.
            for group in tl.static_range(GROUPS):
                tap, of_channel = group * TAPS + row // WIDE, row % WIDE
                dy, dx = tap // 3 - 1, tap % 3 - 1
                near_y, near_x = y[:, None] + dy[None, :], x[:, None] + dx[None, :]
                inside = valid[:, None] & (near_y >= 0) & (near_y < height) & (near_x >= 0) & (near_x < width)
                inside = inside & ((of_channel < H) & (tap < 9))[None, :]
                at = pixel[:, None] * H + ((dy * width + dx) * H + of_channel)[None, :]
                part = tl.load(hidden + before * frame_size + at, mask=inside, other=0.0, cache_modifier=CACHE)
                near = near + (part,)
        sums = tl.zeros([PIXELS, 4 * WIDE], tl.float32)
        for group in tl.static_range(GROUPS):
            sums = tl.dot(near[group], weights[group], sums, input_precision=PRECISION)
        sums += of_input.to(tl.float32)
        # The gates from [pixel, gate x channel], without moving a value to another thread.
        by_gate = tl.permute(tl.reshape(sums, [PIXELS, 4, WIDE]), [0, 2, 1])
        i_o, f_g = tl.split(tl.reshape(by_gate, [PIXELS, WIDE, 2, 2]))
        i, o = tl.split(i_o)
        f, g = tl.split(f_g)
        if PEEPHOLE:
            i += peep_i * cell
            f += peep_f * cell
        i, f, g = _sigmoid(i, FAST), _sigmoid(f, FAST), _tanh(g, FAST)
        cell = f * cell + i * g
        if PEEPHOLE:
            o += peep_o * cell
        o = _sigmoid(o, FAST)
        h = (o * _tanh(cell, FAST)).to(KIND)
        tl.store(hidden + after * frame_size + state_at, h, mask=state_inside)
        if KEEP:
            tl.store(cells + after * frame_size + state_at, cell, mask=state_inside)
            joined = tl.reshape(tl.join(tl.join(i, o), tl.join(f, g)), [PIXELS, WIDE, 4])
            active = tl.reshape(tl.permute(joined, [0, 2, 1]), [PIXELS, 4 * WIDE])
            tl.store(gates + frame * 4 * frame_size + gates_at, active.to(KIND), mask=gates_inside)
        if not ALONE:
            _finish_step(flags, band, step + 1, BANDS)
    if not KEEP:
        tl.store(cells + state_at, cell, mask=state_inside)


@triton.jit(do_not_specialize=NUMBERS)
def backward(
    gates,
    cells,
    grad_hidden,
    grad_cell,
    grad_gates,
    parts,
    weight,
    peephole,
    flags,
    first,
    steps,
    batch,
    height,
    width,
    rows,
    H: tl.constexpr,
    WIDE: tl.constexpr,
    TAPS: tl.constexpr,
    PIXELS: tl.constexpr,
    BANDS: tl.constexpr,
    ALONE: tl.constexpr,
    REVERSE: tl.constexpr,
    PEEPHOLE: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of the gates before their activation, from the last step to the first.

    The gradient of a hidden state is a sum over nine neighbours of [4 H] x [4 H, H] each. The products are computed
    where the gradient of the gates is, written to `parts` [2, image, tap, pixel, H] and added in the next step, since H
    numbers of each neighbour are a quarter of its 4 H. `parts` starts with zeros; steps use its halves in turn.
    `grad_hidden` [step, image, pixel, H] is of the output, and `grad_cell` [image, pixel, H] of the last cell, replaced
    by that of the first.
    """
    image, band = (first + tl.program_id(0)).to(tl.int64), tl.program_id(1)
    GROUPS: tl.constexpr = 1 if ALONE else (9 + TAPS - 1) // TAPS
    # Rows of other programs never from the first cache, which is not kept coherent.
    CACHE: tl.constexpr = ".cg" if BANDS > 1 else ""
    KIND: tl.constexpr = grad_gates.dtype.element_ty
    pixels = height * width
    pixel = band * rows * width + tl.arange(0, PIXELS)
    valid = pixel < tl.minimum((band + 1) * rows * width, pixels)
    y, x = pixel // width, pixel % width
    channel = tl.arange(0, WIDE)
    state_at = pixel[:, None] * H + channel[None, :]
    state_inside = valid[:, None] & (channel < H)[None, :]
    gate_at = pixel[:, None] * (4 * H) + channel[None, :]
    row = tl.arange(0, TAPS * WIDE)
    weights = ()
    for group in tl.static_range(GROUPS):
        weights = weights + (_weights(weight, group * TAPS, WIDE, TAPS),)
    if PEEPHOLE:
        peep_i, peep_f, peep_o = _peepholes(peephole, pixels * H, state_at, state_inside)
    frame_size = batch.to(tl.int64) * pixels * H
    gates += image * pixels * 4 * H
    grad_gates += image * pixels * 4 * H
    grad_hidden += image * pixels * H
    cells += image * pixels * H
    grad_cell += image * pixels * H
    parts += image * pixels * 9 * H
    flags += image * BANDS
    grad_c = tl.load(grad_cell + state_at, mask=state_inside, other=0.0)
    cell = tl.load(cells + (0 if REVERSE else steps) * frame_size + state_at, mask=state_inside, other=0.0)
    of_next = tl.zeros([PIXELS, WIDE], tl.float32)
    for step in range(steps):
        frame = step if REVERSE else steps - 1 - step
        before = frame + 1 if REVERSE else frame
        active = gates + frame * 4 * frame_size + gate_at
        i = tl.load(active, mask=state_inside, other=0.0).to(tl.float32)
        f = tl.load(active + H, mask=state_inside, other=0.0).to(tl.float32)
        o = tl.load(active + 2 * H, mask=state_inside, other=0.0).to(tl.float32)
        g = tl.load(active + 3 * H, mask=state_inside, other=0.0).to(tl.float32)
        cell_before = tl.load(cells + before * frame_size + state_at, mask=state_inside, other=0.0)
        grad_h = tl.load(grad_hidden + frame * frame_size + state_at, mask=state_inside, other=0.0).to(tl.float32)
        if BANDS > 1:
            _wait_for_neighbours(flags, band, step, BANDS, FAST)
        if ALONE:
            grad_h += of_next
        else:
            of_last = parts + (step + 1) % 2 * (9 * frame_size) + state_at
            for tap in tl.static_range(9):
                # The gates at p - d took this pixel as their neighbour at d.
                near_y, near_x = y - (tap // 3 - 1), x - (tap % 3 - 1)
                inside = (near_y >= 0) & (near_y < height) & (near_x >= 0) & (near_x < width)
                at = of_last + (tap * pixels - (tap // 3 - 1) * width - (tap % 3 - 1)) * H
                part = tl.load(at, mask=state_inside & inside[:, None], other=0.0, cache_modifier=CACHE)
                grad_h += part.to(tl.float32)
        of_cell = _tanh(cell, FAST)
        grad_o = grad_h * of_cell * o * (1 - o)
        grad_c += grad_h * o * (1 - of_cell * of_cell)
        if PEEPHOLE:
            grad_c += grad_o * peep_o
        grad_i = grad_c * g * i * (1 - i)
        grad_f = grad_c * cell_before * f * (1 - f)
        grad_g = grad_c * i * (1 - g * g)
        grad_c = grad_c * f
        if PEEPHOLE:
            grad_c += grad_i * peep_i + grad_f * peep_f
        cell = cell_before
        to = grad_gates + frame * 4 * frame_size + gate_at
        tl.store(to, grad_i.to(KIND), mask=state_inside)
        tl.store(to + H, grad_f.to(KIND), mask=state_inside)
        tl.store(to + 2 * H, grad_o.to(KIND), mask=state_inside)
        tl.store(to + 3 * H, grad_g.to(KIND), mask=state_inside)
        joined = tl.reshape(tl.join(tl.join(grad_i, grad_o), tl.join(grad_f, grad_g)), [PIXELS, WIDE, 4])
        of_gates = tl.reshape(tl.permute(joined, [0, 2, 1]), [PIXELS, 4 * WIDE]).to(KIND)
        if ALONE:
            of_next = tl.dot(of_gates, tl.trans(weights[0]), input_precision=PRECISION)
        else:
            of_this = parts + step % 2 * (9 * frame_size)
            for group in tl.static_range(GROUPS):
                part = tl.dot(of_gates, tl.trans(weights[group]), input_precision=PRECISION)
                tap, to_state = group * TAPS + row // WIDE, row % WIDE
                at = pixel[:, None] * H + (tap * pixels * H + to_state)[None, :]
                inside = valid[:, None] & ((to_state < H) & (tap < 9))[None, :]
                tl.store(of_this + at, part.to(parts.dtype.element_ty), mask=inside)
            _finish_step(flags, band, step + 1, BANDS)
    tl.store(grad_cell + state_at, grad_c, mask=state_inside)

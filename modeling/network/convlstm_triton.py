"""Triton kernels of `convlstm_gpu`: all steps of a ConvLSTM layer, forward and backward, in one launch.

A program takes one image, or a band of its rows, through all steps. Its cell stays in registers and the weights in
shared memory; the hidden state goes through memory, whose cache holds it, since a program needs that of its neighbours.
Each step is one product of nine neighbours by the weights, [pixels, taps x H] x [taps x H, 4 H].

Images of several bands run at once and wait for each other's values, so the launch must be cooperative, which fails
where not all programs fit on the device at once. Each value shows by itself whether it has been written: hidden states,
of which each step has its own, are no longer UNWRITTEN (`_unwritten`), and the parts of gradients, which lie in two
halves that steps use in turn, have a last bit that changes from turn to turn (`_in_turn`). A flag would have to be
written after a fence and read before the values: two more round trips to memory in each step. No half is overwritten
too early: a program writes into it what depends on its neighbours' values of the step before, and those depend on what
they read there.

A kernel of one pixel (ALONE) has no neighbours: no program waits, so BANDS is 1, however many there are, and
the hidden state stays in registers, too.

Arrays are contiguous: `gates` [step, image, pixel, gate, H] with the gates in the order i, f, o, g; `hidden` and
`cells` [step + 1, image, pixel, H], before the first step and after each, in the order of the input; `peephole`
[3, pixel, H]; `weight` [neighbour, WIDE, 4, WIDE] in the type of `hidden`, with zeros for the neighbours and channels
that only fill it. Programs take images from `first` on. WIDE is H rounded up to a power of two, and TAPS the neighbours
of one product. Sums are in float32, and products in the type of `hidden`. Where BANDS is above 1, all bits of `parts`,
and of `hidden` but for the state before the first step, are 1 at the start.
"""

import triton
import triton.language as tl

# Arguments whose values do not specialise kernels.
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
def _near(
    state, pixel, valid, height, width, H: tl.constexpr, WIDE: tl.constexpr, TAPS: tl.constexpr, BANDS: tl.constexpr
):
    """Hidden states of the neighbours of each pixel, in products of TAPS neighbours each, and the number missing."""
    GROUPS: tl.constexpr = (9 + TAPS - 1) // TAPS
    row = tl.arange(0, TAPS * WIDE)
    y, x = pixel // width, pixel % width
    near = ()
    missing = tl.zeros([pixel.shape[0], TAPS * WIDE], tl.int1)
    # All loads before the first product, so that they are under way together.
    for group in tl.static_range(GROUPS):
        tap, of_channel = group * TAPS + row // WIDE, row % WIDE
        dy, dx = tap // 3 - 1, tap % 3 - 1
        near_y, near_x = y[:, None] + dy[None, :], x[:, None] + dx[None, :]
        inside = valid[:, None] & (near_y >= 0) & (near_y < height) & (near_x >= 0) & (near_x < width)
        inside = inside & ((of_channel < H) & (tap < 9))[None, :]
        at = pixel[:, None] * H + ((dy * width + dx) * H + of_channel)[None, :]
        part = tl.load(state + at, mask=inside, other=0.0, volatile=BANDS > 1)
        if BANDS > 1:
            missing = missing | _unwritten(part)
        near = near + (part,)
    return near, tl.sum(missing.to(tl.int32)) if BANDS > 1 else 0


@triton.jit
def _unwritten(values):
    """Hidden states that no program has written yet, bool."""
    return _bits(values) == -1


@triton.jit
def _from_near(parts, turn, pixel, inside, height, width, H: tl.constexpr, WIDE: tl.constexpr, BANDS: tl.constexpr):
    """Gradient of each pixel's hidden state, summed over its neighbours, and the number of missing terms."""
    y, x = pixel // width, pixel % width
    channel = tl.arange(0, WIDE)
    total = tl.zeros([pixel.shape[0], WIDE], tl.float32)
    missing = tl.zeros([pixel.shape[0], WIDE], tl.int1)
    for tap in tl.static_range(9):
        # The gates at p - d took this pixel as their neighbour at d.
        near_y, near_x = y - (tap // 3 - 1), x - (tap % 3 - 1)
        near = inside & ((near_y >= 0) & (near_y < height) & (near_x >= 0) & (near_x < width))[:, None]
        at = (pixel + tap * height * width - (tap // 3 - 1) * width - (tap % 3 - 1))[:, None] * H + channel[None, :]
        part = tl.load(parts + at, mask=near, other=0.0, volatile=BANDS > 1)
        if BANDS > 1:
            missing = missing | (near & ((_bits(part) & 1) != turn))
        total += part.to(tl.float32)
    return total, tl.sum(missing.to(tl.int32)) if BANDS > 1 else 0


@triton.jit
def _in_turn(values, turn):
    """Values whose last bit tells the turn in which they were written."""
    bits = _bits(values)
    return tl.where(turn == 1, bits | 1, bits & -2).to(values.dtype, bitcast=True)


@triton.jit
def _bits(values):
    if values.dtype.primitive_bitwidth == 16:
        bits = values.to(tl.int16, bitcast=True)
    else:
        bits = values.to(tl.int32, bitcast=True)
    return bits


@triton.jit
def _kept(gates, cells, grad_hidden, frame, frame_size, gate_at, state_at, inside, H: tl.constexpr):
    """Values of a step for the backward pass: gates i, f, o and g, the cell before it, the gradient of its output."""
    gates += frame * 4 * frame_size
    i = tl.load(gates + gate_at, mask=inside, other=0.0)
    f = tl.load(gates + H + gate_at, mask=inside, other=0.0)
    o = tl.load(gates + 2 * H + gate_at, mask=inside, other=0.0)
    g = tl.load(gates + 3 * H + gate_at, mask=inside, other=0.0)
    cell = tl.load(cells + frame * frame_size + state_at, mask=inside, other=0.0)
    grad_h = tl.load(grad_hidden + frame * frame_size + state_at, mask=inside, other=0.0)
    return i, f, o, g, cell, grad_h


@triton.jit(do_not_specialize=NUMBERS)
def forward(
    gates,
    hidden,
    cells,
    weight,
    peephole,
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
    # Memory latency exceeds a step: gates are read a step ahead, or by programs that wait, during the wait.
    AHEAD: tl.constexpr = BANDS == 1
    KIND: tl.constexpr = hidden.dtype.element_ty
    pixels = height * width
    pixel = band * rows * width + tl.arange(0, PIXELS)
    valid = pixel < tl.minimum((band + 1) * rows * width, pixels)
    channel = tl.arange(0, WIDE)
    state_at = pixel[:, None] * H + channel[None, :]
    state_inside = valid[:, None] & (channel < H)[None, :]
    column = tl.arange(0, 4 * WIDE)
    gates_at = pixel[:, None] * (4 * H) + (column // WIDE * H + column % WIDE)[None, :]
    gates_inside = valid[:, None] & (column % WIDE < H)[None, :]
    weights = ()
    for group in tl.static_range(GROUPS):
        weights = weights + (_weights(weight, group * TAPS, WIDE, TAPS),)
    if PEEPHOLE:
        peep_i, peep_f, peep_o = _peepholes(peephole, pixels * H, state_at, state_inside)
    frame_size = batch.to(tl.int64) * pixels * H
    gates += image * pixels * 4 * H
    hidden += image * pixels * H
    cells += image * pixels * H
    cell = tl.load(cells + (steps * frame_size if KEEP and REVERSE else 0) + state_at, mask=state_inside, other=0.0)
    h = tl.load(hidden + (steps * frame_size if REVERSE else 0) + state_at, mask=state_inside, other=0.0)
    gate_frame = 4 * frame_size
    first_frame = steps - 1 if REVERSE else 0
    of_next = tl.load(gates + first_frame * gate_frame + gates_at, mask=gates_inside & AHEAD, other=0.0)
    for step in range(steps):
        frame = steps - 1 - step if REVERSE else step
        before, after = (frame + 1, frame) if REVERSE else (frame, frame + 1)
        if AHEAD:
            of_input = of_next
            later = frame - 1 if REVERSE else frame + 1
            of_next = tl.load(gates + later * gate_frame + gates_at, mask=gates_inside & (step + 1 < steps), other=0.0)
        else:
            of_input = tl.load(gates + frame * gate_frame + gates_at, mask=gates_inside, other=0.0)
        near = (h,)
        if not ALONE:
            state = hidden + before * frame_size
            near, missing = _near(state, pixel, valid, height, width, H, WIDE, TAPS, BANDS)
            if BANDS > 1:
                while missing > 0:
                    near, missing = _near(state, pixel, valid, height, width, H, WIDE, TAPS, BANDS)
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
            tl.store(gates + frame * gate_frame + gates_at, active.to(KIND), mask=gates_inside)
        if BANDS == 1 and not ALONE:
            tl.debug_barrier()  # the next step reads what other threads wrote
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
    numbers of each neighbour are a quarter of its 4 H. Steps use the halves of `parts` in turn.
    `grad_hidden` [step, image, pixel, H] is of the output, and `grad_cell` [image, pixel, H] of the last cell, replaced
    by that of the first.
    """
    image, band = (first + tl.program_id(0)).to(tl.int64), tl.program_id(1)
    GROUPS: tl.constexpr = 1 if ALONE else (9 + TAPS - 1) // TAPS
    AHEAD: tl.constexpr = BANDS == 1
    KIND: tl.constexpr = grad_gates.dtype.element_ty
    pixels = height * width
    pixel = band * rows * width + tl.arange(0, PIXELS)
    valid = pixel < tl.minimum((band + 1) * rows * width, pixels)
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
    grad_c = tl.load(grad_cell + state_at, mask=state_inside, other=0.0)
    cell = tl.load(cells + (0 if REVERSE else steps) * frame_size + state_at, mask=state_inside, other=0.0)
    of_later = tl.zeros([PIXELS, WIDE], tl.float32)
    # From here on the cell before each frame, in the order of the steps.
    cells += frame_size if REVERSE else 0
    first_frame = 0 if REVERSE else steps - 1
    of_next = _kept(gates, cells, grad_hidden, first_frame, frame_size, gate_at, state_at, state_inside & AHEAD, H)
    for step in range(steps):
        frame = step if REVERSE else steps - 1 - step
        if AHEAD:
            i, f, o, g, cell_before, grad_h = of_next
            later, inside = frame + 1 if REVERSE else frame - 1, state_inside & (step + 1 < steps)
            of_next = _kept(gates, cells, grad_hidden, later, frame_size, gate_at, state_at, inside, H)
        else:
            kept = _kept(gates, cells, grad_hidden, frame, frame_size, gate_at, state_at, state_inside, H)
            i, f, o, g, cell_before, grad_h = kept
        i, f, o, g = i.to(tl.float32), f.to(tl.float32), o.to(tl.float32), g.to(tl.float32)
        grad_h = grad_h.to(tl.float32)
        if ALONE:
            grad_h += of_later
        else:
            of_last, turn = parts + (step + 1) % 2 * (9 * frame_size), (step - 1) // 2 % 2
            inside = state_inside & (step > 0)
            of_near, missing = _from_near(of_last, turn, pixel, inside, height, width, H, WIDE, BANDS)
            if BANDS > 1:
                while missing > 0:
                    of_near, missing = _from_near(of_last, turn, pixel, inside, height, width, H, WIDE, BANDS)
            grad_h += of_near
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
        joined = tl.reshape(tl.join(tl.join(grad_i, grad_o), tl.join(grad_f, grad_g)), [PIXELS, WIDE, 4])
        of_gates = tl.reshape(tl.permute(joined, [0, 2, 1]), [PIXELS, 4 * WIDE]).to(KIND)
        if ALONE:
            of_later = tl.dot(of_gates, tl.trans(weights[0]), input_precision=PRECISION)
        else:
            of_this = parts + step % 2 * (9 * frame_size)
            for group in tl.static_range(GROUPS):
                part = tl.dot(of_gates, tl.trans(weights[group]), input_precision=PRECISION)
                tap, to_state = group * TAPS + row // WIDE, row % WIDE
                at = pixel[:, None] * H + (tap * pixels * H + to_state)[None, :]
                inside = valid[:, None] & ((to_state < H) & (tap < 9))[None, :]
                part = part.to(parts.dtype.element_ty)
                tl.store(of_this + at, _in_turn(part, step // 2 % 2) if BANDS > 1 else part, mask=inside)
            if BANDS == 1:
                tl.debug_barrier()
        # Last, since no program waits for them.
        to = grad_gates + frame * 4 * frame_size + gate_at
        tl.store(to, grad_i.to(KIND), mask=state_inside)
        tl.store(to + H, grad_f.to(KIND), mask=state_inside)
        tl.store(to + 2 * H, grad_o.to(KIND), mask=state_inside)
        tl.store(to + 3 * H, grad_g.to(KIND), mask=state_inside)
    tl.store(grad_cell + state_at, grad_c, mask=state_inside)

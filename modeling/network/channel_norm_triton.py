"""Triton kernels of `channel_norm`: layer normalisation of rows of few channels, forward and backward.

PyTorch's kernel takes a block of threads for each row, and a row here has 16 or 32 numbers. Here a program takes
[ROWS, WIDE] numbers at once. Row and group of a number are `row * row_stride + group * group_stride + channel`; each
group of rows has weights of its own, [group, C]. WIDE is C rounded up to a power of two. Sums are in float32.
"""

import triton
import triton.language as tl

NUMBERS = ["num_rows", "row_stride", "group_stride"]


@triton.jit
def _tile(block, group, num_rows, row_stride, group_stride, C: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr):
    """Offsets of the numbers of a block of rows, [ROWS, WIDE], and which of them exist."""
    row, channel = block * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDE)
    at = row.to(tl.int64)[:, None] * row_stride + group.to(tl.int64) * group_stride + channel[None, :]
    return at, (row < num_rows)[:, None] & (channel < C)[None, :]


@triton.jit
def _normalised(values, inside, C: tl.constexpr, EPSILON: tl.constexpr):
    """Values less their mean over the channels, divided by their deviation, and 1 / deviation."""
    centred = tl.where(inside, values - (tl.sum(values, 1) / C)[:, None], 0.0)
    inverse = tl.rsqrt(tl.sum(centred * centred, 1) / C + EPSILON)
    return centred * inverse[:, None], inverse


@triton.jit(do_not_specialize=NUMBERS)
def forward(
    x,
    weight,
    bias,
    out,
    num_rows,
    row_stride,
    group_stride,
    C: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    EPSILON: tl.constexpr,
):
    """Normalised rows times the weights of their group, plus its biases."""
    group, channel = tl.program_id(1), tl.arange(0, WIDE)
    within = channel < C
    at, inside = _tile(tl.program_id(0), group, num_rows, row_stride, group_stride, C, WIDE, ROWS)
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    normalised, _ = _normalised(values, inside, C, EPSILON)
    scale = tl.load(weight + group * C + channel, mask=within, other=0.0).to(tl.float32)
    shift = tl.load(bias + group * C + channel, mask=within, other=0.0).to(tl.float32)
    tl.store(out + at, (normalised * scale[None, :] + shift[None, :]).to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=NUMBERS)
def backward(
    x,
    weight,
    grad_out,
    grad_x,
    grad_weight,
    grad_bias,
    num_rows,
    row_stride,
    group_stride,
    C: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    EPSILON: tl.constexpr,
):
    """Gradients; those of weights and biases in parts, [program, group, C]."""
    program, group, channel = tl.program_id(0), tl.program_id(1), tl.arange(0, WIDE)
    within = channel < C
    scale = tl.load(weight + group * C + channel, mask=within, other=0.0).to(tl.float32)
    of_weight = tl.zeros([ROWS, WIDE], tl.float32)
    of_bias = tl.zeros([ROWS, WIDE], tl.float32)
    for block in range(program, tl.cdiv(num_rows, ROWS), tl.num_programs(0)):
        at, inside = _tile(block, group, num_rows, row_stride, group_stride, C, WIDE, ROWS)
        values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        upstream = tl.load(grad_out + at, mask=inside, other=0.0).to(tl.float32)
        normalised, inverse = _normalised(values, inside, C, EPSILON)
        of_weight += upstream * normalised
        of_bias += upstream
        scaled = upstream * scale[None, :]
        mean, slope = tl.sum(scaled, 1) / C, tl.sum(scaled * normalised, 1) / C
        found = (scaled - mean[:, None] - normalised * slope[:, None]) * inverse[:, None]
        tl.store(grad_x + at, found.to(grad_x.dtype.element_ty), mask=inside)
    part = (program * tl.num_programs(1) + group) * C + channel
    tl.store(grad_weight + part, tl.sum(of_weight, 0), mask=within)
    tl.store(grad_bias + part, tl.sum(of_bias, 0), mask=within)

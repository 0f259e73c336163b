"""Parts of a galaxy to hide from a network: groups of related lines, squares of spaxels, and both.

A network that sees a spectrum reproduces what is unusual in it. One that must predict a hidden part from the rest
cannot. Lines of one ion are hidden together, since each of them alone determines the others.

Shapes: G groups, L lines, N squares, Y and X spaxels.
"""

import torch
from torch import Tensor

from modeling.network.line_groups import Groups

# Probabilities that a galaxy's hidden part is squares alone, or groups alone; otherwise it is both.
SQUARES_ONLY, GROUPS_ONLY = 0.4, 0.4
# Largest share of the groups, and of the spaxels, that is hidden in training.
MAX_GROUPS, MAX_SQUARES = 0.25, 0.5
# Positions of the lattice along each axis.
LATTICE_STEPS = 3


def margin(side: int) -> int:
    """Spaxels of a hidden square around its middle, whose light still reaches the spaxels that are seen."""
    return side // 4


def draw_hidden(groups: Groups, num_lines: int, size: int, side: int, generator: torch.Generator) -> Tensor:
    """Random hidden part of a galaxy, hidden_LYX bool.

    Args:
        groups: of `line_groups.line_groups`.
        num_lines: L.
        size: spaxels per side of a window.
        side: spaxels per side of a hidden square.
        generator: of the draws.
    """
    kind = float(torch.rand((), generator=generator))
    hidden_LYX = torch.zeros(num_lines, size, size, dtype=torch.bool)
    if kind >= GROUPS_ONLY:
        hidden_LYX |= _draw_squares(size, side, generator)
    if kind < 1 - SQUARES_ONLY:
        hidden_LYX[_draw_lines(groups, generator)] = True
    return hidden_LYX


def _draw_squares(size: int, side: int, generator: torch.Generator) -> Tensor:
    """One or more squares, [Y, X] bool; they may reach over the edge and overlap."""
    most = max(1, round(MAX_SQUARES * (size / side) ** 2))
    number = int(torch.randint(1, most + 1, (), generator=generator))
    corner_N2 = torch.randint(-(side // 2), size - side // 2, (number, 2), generator=generator)
    offset_N2S = torch.arange(size) - corner_N2[..., None]
    inside_N2S = (offset_N2S >= 0) & (offset_N2S < side)
    return (inside_N2S[:, 0, :, None] & inside_N2S[:, 1, None, :]).any(dim=0)


def _draw_lines(groups: Groups, generator: torch.Generator) -> list[int]:
    """Lines of one or more groups; at least one group is left, unless there is no other."""
    most = max(1, int(MAX_GROUPS * len(groups)))
    number = int(torch.randint(1, most + 1, (), generator=generator))
    return [line for group in torch.randperm(len(groups), generator=generator)[:number] for line in groups[group]]


def membership(groups: Groups, num_lines: int) -> Tensor:
    """Which lines belong to each group, [G, L] float, 0 or 1."""
    member_GL = torch.zeros(len(groups), num_lines)
    for index, lines in enumerate(groups):
        member_GL[index, lines] = 1
    return member_GL


def lattice(size: int, side: int) -> list[tuple[Tensor, Tensor]]:
    """Lattices of hidden squares, such that each spaxel is in the middle of a hidden square exactly once.

    Args:
        size: spaxels per side of a window.
        side: spaxels per side of a hidden square.

    Returns:
        Pairs of [Y, X] bool: the hidden spaxels, and those in the middle of their squares.
    """
    edge = margin(side)
    core = side - 2 * edge
    place = torch.arange(size)
    axes = []
    for step in range(LATTICE_STEPS):
        offset = (place - step * core) % (LATTICE_STEPS * core)
        axes.append(((offset < core + edge) | (offset >= LATTICE_STEPS * core - edge), offset < core))
    return [(wide_y[:, None] & wide_x, core_y[:, None] & core_x) for wide_y, core_y in axes for wide_x, core_x in axes]


def turned(images: Tensor, view: int, *, back: bool = False) -> Tensor:
    """Images [..., Y, X] rotated by `view` % 4 quarter turns after a reflection for `view` >= 4; `back` undoes that."""
    if back:
        images = torch.rot90(images, -(view % 4), (-2, -1))
    if view >= 4:
        images = images.flip(-1)
    return images if back else torch.rot90(images, view % 4, (-2, -1)).contiguous()

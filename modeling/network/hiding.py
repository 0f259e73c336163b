"""Parts of a galaxy to hide from a network: squares of spaxels, or in each square one group of related lines.

A network that sees a spectrum reproduces what is unusual in it. One that must predict a hidden part from the rest
cannot. Lines of one ion are hidden together, since each of them alone determines the others. In a patchwork of squares
each hides one group: it is predicted from the square's other lines, and from the same lines around the square.

Shapes: G groups, L lines, N squares, T tiles, Y and X spaxels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from modeling.network.line_groups import Groups

# Probability that a galaxy's hidden part is squares; otherwise it is a patchwork.
SQUARES = 0.4
# Largest share of the spaxels that squares hide in training.
MAX_SQUARES = 0.5
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
    if float(torch.rand((), generator=generator)) < SQUARES:
        return _draw_squares(size, side, generator).expand(num_lines, -1, -1)
    return _draw_patchwork(groups, num_lines, size, side, generator)


def _draw_squares(size: int, side: int, generator: torch.Generator) -> Tensor:
    """One or more squares, [Y, X] bool; they may reach over the edge and overlap."""
    most = max(1, round(MAX_SQUARES * (size / side) ** 2))
    number = int(torch.randint(1, most + 1, (), generator=generator))
    corner_N2 = torch.randint(-(side // 2), size - side // 2, (number, 2), generator=generator)
    offset_N2S = torch.arange(size) - corner_N2[..., None]
    inside_N2S = (offset_N2S >= 0) & (offset_N2S < side)
    return (inside_N2S[:, 0, :, None] & inside_N2S[:, 1, None, :]).any(dim=0)


def _draw_patchwork(groups: Groups, num_lines: int, size: int, side: int, generator: torch.Generator) -> Tensor:
    """Squares at a random place of their tiling, each with a random group, hidden_LYX bool."""
    core = side - 2 * margin(side)
    tiles = -(-size // core) + 1
    group_TT = torch.randint(len(groups), (tiles, tiles), generator=generator)
    y, x = torch.randint(core, (2,), generator=generator).tolist()
    group_YX = group_TT.repeat_interleave(core, 0).repeat_interleave(core, 1)[y : y + size, x : x + size]
    return _lines_of(groups, num_lines, group_YX, margin(side))


def _lines_of(groups: Groups, num_lines: int, group_YX: Tensor, edge: int) -> Tensor:
    """Lines of the groups of each spaxel and of those within `edge` spaxels of it, [L, Y, X] bool."""
    chosen_GYX = (group_YX == torch.arange(len(groups))[:, None, None]).float()
    near_GYX = functional.max_pool2d(chosen_GYX, 2 * edge + 1, stride=1, padding=edge) > 0
    lines_LYX = torch.zeros(num_lines, *group_YX.shape, dtype=torch.bool)
    for near_YX, lines in zip(near_GYX, groups, strict=True):
        lines_LYX[lines] = near_YX
    return lines_LYX


def patchwork(groups: Groups, num_lines: int, size: int, side: int) -> list[tuple[Tensor, Tensor]]:
    """Patchworks such that each group of each spaxel is hidden exactly once in the middle of a square.

    Args:
        groups: of `line_groups.line_groups`.
        num_lines: L.
        size: spaxels per side of a window.
        side: spaxels per side of a hidden square.

    Returns:
        Pairs of [L, Y, X] bool: what is hidden, and the part of it in the middle of its square.
    """
    tile = torch.arange(size) // (side - 2 * margin(side))
    # Neighbours hide different groups, diagonal ones too, so that each sees what the other hides.
    first_YX = tile[:, None] + 2 * tile
    hidden = []
    for step in range(len(groups)):
        group_YX = (first_YX + step) % len(groups)
        wide_LYX = _lines_of(groups, num_lines, group_YX, margin(side))
        hidden.append((wide_LYX, _lines_of(groups, num_lines, group_YX, 0)))
    return hidden


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

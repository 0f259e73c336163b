"""Parts of a galaxy to hide from a network: squares of spaxels, or in each square one group of related lines.

A network that sees a spectrum also reproduces its anomalies; one that must predict a hidden part from the rest cannot.
Lines of one ion are hidden together, since each of them alone determines the others. Each square of a patchwork hides
one group, which is predicted from the square's other lines and from the same lines around the square.

Shapes: B batch, G groups, L lines, T tiles, Y and X spaxels.
"""

import numpy as np
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
# In place of a spaxel's group.
ALL, NONE = -1, -2


def margin(side: int) -> int:
    """Width in spaxels of the edge of a hidden square, whose light still reaches seen spaxels."""
    return side // 4


def draw_hidden(num_groups: int, size: int, side: int, generator: torch.Generator) -> np.ndarray:
    """Random hidden part of a galaxy: group that each spaxel hides, [Y, X]; ALL for all of them, NONE for none.

    Built with NumPy, one galaxy at a time: PyTorch takes longer to start such a small operation than to run it.

    Args:
        num_groups: G.
        size: spaxels per side of a window.
        side: spaxels per side of a hidden square.
        generator: of the draws.
    """
    if float(torch.rand((), generator=generator)) < SQUARES:
        return _draw_squares(size, side, generator)
    return _draw_patchwork(num_groups, size, side, generator)


def _draw_squares(size: int, side: int, generator: torch.Generator) -> np.ndarray:
    """One or more squares that hide all lines; they may reach over the edge and overlap."""
    most = max(1, round(MAX_SQUARES * (size / side) ** 2))
    number = int(torch.randint(1, most + 1, (), generator=generator))
    group_YX = np.full((size, size), NONE)
    for y, x in torch.randint(-(side // 2), size - side // 2, (number, 2), generator=generator).tolist():
        group_YX[max(y, 0) : y + side, max(x, 0) : x + side] = ALL
    return group_YX


def _draw_patchwork(num_groups: int, size: int, side: int, generator: torch.Generator) -> np.ndarray:
    """Squares at a random place of their tiling, each with a random group."""
    core = side - 2 * margin(side)
    tiles = -(-size // core) + 1
    group_TT = torch.randint(num_groups, (tiles, tiles), generator=generator).numpy()
    y, x = torch.randint(core, (2,), generator=generator).tolist()
    place = np.arange(size)
    return group_TT[((y + place) // core)[:, None], (x + place) // core]


def group_of_lines(groups: Groups, num_lines: int) -> Tensor:
    """Group of each line, [L]."""
    of_line_L = torch.empty(num_lines, dtype=torch.int64)
    for group, lines in enumerate(groups):
        of_line_L[lines] = group
    return of_line_L


def hidden_lines(of_line_L: Tensor, num_groups: int, group_BYX: Tensor, edge: int) -> Tensor:
    """Lines of the group of each spaxel and of those within `edge` spaxels of it, [B, L, Y, X] bool.

    Args:
        of_line_L: of `group_of_lines`.
        num_groups: G.
        group_BYX: as of `draw_hidden`; where it is ALL, nothing is added around it.
        edge: in spaxels.
    """
    groups_G11 = torch.arange(num_groups, device=group_BYX.device)[:, None, None]
    chosen_BGYX = (group_BYX[:, None] == groups_G11).float()
    near_BGYX = functional.max_pool2d(chosen_BGYX, 2 * edge + 1, stride=1, padding=edge) > 0
    return near_BGYX.index_select(1, of_line_L) | (group_BYX == ALL)[:, None]


def patchwork(groups: Groups, num_lines: int, size: int, side: int) -> list[tuple[Tensor, Tensor]]:
    """Patchworks such that each group of each spaxel is hidden exactly once in the middle of a square.

    Args:
        groups: of `line_groups.line_groups`.
        num_lines: L.
        size: spaxels per side of a window.
        side: spaxels per side of a hidden square.

    Returns:
        Pairs of [L, Y, X] bool: the hidden lines, and those of them in the middle of their squares.
    """
    tile = torch.arange(size) // (side - 2 * margin(side))
    # Neighbours hide different groups, diagonal ones too if there are enough, so that each sees what the other hides.
    first_YX = tile[:, None] + (2 if len(groups) > 2 else 1) * tile
    group_GYX = (first_YX + torch.arange(len(groups))[:, None, None]) % len(groups)
    of_line_L = group_of_lines(groups, num_lines)
    wide_GLYX, middle_GLYX = (hidden_lines(of_line_L, len(groups), group_GYX, edge) for edge in (margin(side), 0))
    return list(zip(wide_GLYX, middle_GLYX, strict=True))


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


def turns(size: int) -> Tensor:
    """Index in the image of each spaxel of the 8 views of `turned`, [8, Y X]."""
    place_YX = torch.arange(size * size).view(size, size)
    return torch.stack([turned(place_YX, view).flatten() for view in range(8)])


def turn_each(images: Tensor, place_BP: Tensor) -> Tensor:
    """Images [B, ..., Y, X], each turned by its row of `turns`: one operation, however many there are."""
    flat = images.flatten(1, -3).flatten(-2)
    return flat.gather(2, place_BP[:, None].expand_as(flat)).view(images.shape)

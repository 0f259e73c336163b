"""Parts of a galaxy to hide from a network: squares of spaxels, or in each square one group of related lines.

A network that sees a spectrum reproduces what is unusual in it. One that must predict a hidden part from the rest
cannot. Lines of one ion are hidden together, since each of them alone determines the others. In a patchwork of squares
each hides one group: it is predicted from the square's other lines, and from the same lines around the square.

Shapes: B galaxies, G groups, L lines, N squares, T tiles, Y and X spaxels.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

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


class Draw(NamedTuple):
    """Random hidden part of a galaxy: squares, or a patchwork.

    Attributes:
        corners: [N, 2], (y, x) of the squares' first spaxels, which may lie beyond the edge; of a patchwork none.
        tiles: [T, T], group that each tile of a patchwork hides.
        place: spaxels (y, x) by which the tiling is displaced.
    """

    corners: Tensor
    tiles: Tensor
    place: tuple[int, int]


def draw(num_groups: int, size: int, side: int, generator: torch.Generator) -> Draw:
    """Random hidden part of a galaxy.

    Args:
        num_groups: of lines.
        size: spaxels per side of a window.
        side: spaxels per side of a hidden square.
        generator: of the draws.
    """
    core = side - 2 * margin(side)
    tiles = -(-size // core) + 1
    if float(torch.rand((), generator=generator)) < SQUARES:
        most = max(1, round(MAX_SQUARES * (size / side) ** 2))
        number = int(torch.randint(1, most + 1, (), generator=generator))
        corner_N2 = torch.randint(-(side // 2), size - side // 2, (number, 2), generator=generator)
        return Draw(corner_N2, torch.zeros(tiles, tiles, dtype=torch.int64), (0, 0))
    group_TT = torch.randint(num_groups, (tiles, tiles), generator=generator)
    y, x = torch.randint(core, (2,), generator=generator).tolist()
    return Draw(torch.zeros(0, 2, dtype=torch.int64), group_TT, (y, x))


def hidden_parts(
    draws: Sequence[Draw], groups: Groups, size: int, side: int, device: torch.device | str = "cpu"
) -> Tensor:
    """What some draws hide, [B, L, Y, X] bool; all galaxies at once, so that a GPU has few launches.

    Args:
        draws: of the galaxies.
        groups: of `line_groups.line_groups`.
        size: spaxels per side of a window.
        side: spaxels per side of a hidden square.
        device: of the result.
    """
    # No square begins at `size`.
    corner_BN2 = pad_sequence([drawn.corners for drawn in draws], batch_first=True, padding_value=size)
    has_squares_B = torch.tensor([len(drawn.corners) > 0 for drawn in draws])
    group_BTT = torch.stack([drawn.tiles for drawn in draws])
    place_B2 = torch.tensor([drawn.place for drawn in draws])
    arrays = (values.to(device, non_blocking=True) for values in (corner_BN2, has_squares_B, group_BTT, place_B2))
    corner_BN2, has_squares_B, group_BTT, place_B2 = arrays
    spaxel = torch.arange(size, device=device)
    offset_BN2S = spaxel - corner_BN2[..., None]
    inside_BN2S = (offset_BN2S >= 0) & (offset_BN2S < side)
    squares_BYX = (inside_BN2S[:, :, 0, :, None] & inside_BN2S[:, :, 1, None, :]).any(dim=1)
    tile_B2S = (spaxel + place_B2[..., None]) // (side - 2 * margin(side))
    galaxy_B = torch.arange(len(draws), device=device)[:, None, None]
    group_BYX = group_BTT[galaxy_B, tile_B2S[:, 0, :, None], tile_B2S[:, 1, None, :]]
    lines_BLYX = _lines_of(groups, group_BYX, margin(side))
    return torch.where(has_squares_B[:, None, None, None], squares_BYX[:, None], lines_BLYX)


def _lines_of(groups: Groups, group_BYX: Tensor, edge: int) -> Tensor:
    """Lines of the groups of each spaxel and of those within `edge` spaxels of it, [B, L, Y, X] bool."""
    number_G11 = torch.arange(len(groups), device=group_BYX.device)[:, None, None]
    chosen_BGYX = (group_BYX[:, None] == number_G11).float()
    near_BGYX = functional.max_pool2d(chosen_BGYX, 2 * edge + 1, stride=1, padding=edge) > 0
    group_of_line = {line: number for number, lines in enumerate(groups) for line in lines}
    return torch.stack([near_BGYX[:, group_of_line[line]] for line in range(len(group_of_line))], dim=1)


def patchwork(groups: Groups, size: int, side: int) -> list[tuple[Tensor, Tensor]]:
    """Patchworks such that each group of each spaxel is hidden exactly once in the middle of a square.

    Args:
        groups: of `line_groups.line_groups`.
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
        wide_LYX, middle_LYX = (_lines_of(groups, group_YX[None], edge)[0] for edge in (margin(side), 0))
        hidden.append((wide_LYX, middle_LYX))
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


def turned_each(images_BLSYX: Tensor, views: Sequence[int]) -> Tensor:
    """Images of each galaxy as `turned` by a view of its own."""
    size = images_BLSYX.shape[-1]
    from_BP = _places(size, images_BLSYX.device)[torch.tensor(list(views)).to(images_BLSYX.device, non_blocking=True)]
    flat_BLSP = images_BLSYX.flatten(3)
    return flat_BLSP.gather(3, from_BP[:, None, None].expand_as(flat_BLSP)).view_as(images_BLSYX)


@functools.cache
def _places(size: int, device: torch.device) -> Tensor:
    """Spaxel of the image from which each spaxel of a view comes, [8, Y X]."""
    place_YX = torch.arange(size**2, device=device).view(size, size)
    return torch.stack([turned(place_YX, view).flatten() for view in range(8)])

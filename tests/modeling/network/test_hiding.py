import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeprep.lines import DAP_DR17_LINES, PAPER_LINES
from modeling.network.hiding import (
    NONE,
    draw_hidden,
    group_of_lines,
    hidden_lines,
    lattice,
    margin,
    patchwork,
    turn_each,
    turned,
    turns,
)
from modeling.network.line_groups import line_groups


def test_lines_of_one_ion_are_one_group() -> None:
    names = [line.name for line in PAPER_LINES]
    groups = [[names[line] for line in group] for group in line_groups(names)]
    assert groups[0] == ["Heta-3836", "Hzet-3890", "Heps-3971", "Hdel-4102", "Hgam-4341", "Hb-4862", "Ha-6564"]
    assert groups[1:] == [
        ["NeIII-3869", "NeIII-3968"], ["HeII-4687"], ["OIII-4960", "OIII-5008"], ["HeI-5877"],
        ["OI-6302", "OI-6365"], ["NII-6549", "NII-6585"], ["SII-6718", "SII-6732"],
    ]  # fmt: skip


@pytest.mark.parametrize("names", [["Ha-6564"], ["Ha-6564", "Hb-4862"], [line.name for line in DAP_DR17_LINES]])
def test_every_line_is_in_one_group_and_one_group_is_never_all(names: list[str]) -> None:
    groups = line_groups(names)
    assert sorted(line for group in groups for line in group) == list(range(len(names)))
    assert len(groups) > 1 or len(names) == 1


@given(size=st.integers(2, 5).map(lambda n: 8 * n), side=st.integers(1, 11))
def test_each_spaxel_is_once_in_the_middle_of_a_hidden_square(size: int, side: int) -> None:
    passes = lattice(size, side)
    assert len(passes) == 9
    assert torch.stack([middle for _, middle in passes]).sum(0).unique().tolist() == [1]
    for hidden, middle in passes:
        near = torch.nn.functional.max_pool2d(middle[None].float(), 2 * margin(side) + 1, 1, margin(side))[0] > 0
        # All spaxels within the margin are hidden too, and never all spaxels.
        assert hidden[near].all()
        assert not hidden.all()


@pytest.mark.slow
@settings(deadline=None)  # the first call is slower than the others
@given(size=st.integers(1, 4).map(lambda n: 8 * n), side=st.integers(1, 7), num_groups=st.integers(2, 9))
def test_each_group_of_each_spaxel_is_once_hidden_alone(size: int, side: int, num_groups: int) -> None:
    groups = [[line, num_groups + line] for line in range(num_groups)]
    passes = patchwork(groups, 2 * num_groups, size, side)
    assert len(passes) == num_groups
    assert torch.stack([middle for _, middle in passes]).sum(0).unique().tolist() == [1]
    edge = margin(side)
    for hidden, middle in passes:
        near = torch.nn.functional.max_pool2d(middle.float(), 2 * edge + 1, 1, edge) > 0
        assert torch.equal(hidden, near)
        assert torch.equal(middle[:num_groups], middle[num_groups:])
        # Neighbouring squares hide other groups, so that around a square its lines are seen.
        core = side - 2 * edge
        assert not (middle[:, core:] & middle[:, :-core]).any()
        assert not (middle[:, :, core:] & middle[:, :, :-core]).any()


def test_draws_hide_squares_and_patchworks_and_leave_something_to_see() -> None:
    groups, generator = [[0, 2], [1], [3, 4], [5]], torch.Generator().manual_seed(0)
    drawn = torch.from_numpy(np.stack([draw_hidden(len(groups), 16, 5, generator) for _ in range(400)]))
    draws = hidden_lines(group_of_lines(groups, 6), len(groups), drawn, margin(5))
    squares = (draws == draws[:, :1]).flatten(1).all(1)
    assert squares.float().mean() == pytest.approx(0.4, abs=0.07)
    for group in groups:  # related lines go together
        assert (draws[:, group] == draws[:, group[:1]]).all()
    assert not draws.flatten(1).all(1).any()
    assert draws.flatten(1).any(1).all()
    # Squares and patches reach every spaxel, corners included, and any group.
    assert draws[squares][:, 0].any(0).all()
    assert draws[~squares].any(0).all()
    # Of a patchwork each spaxel hides at least its own group.
    assert draws[~squares].any(1).all()
    # Squares hide what they cover and no more.
    assert torch.equal(draws[squares][:, 0], drawn[squares] != NONE)


@pytest.mark.parametrize("view", range(8))
def test_turning_back_undoes_turning(view: int) -> None:
    images = torch.arange(2 * 16.0).view(2, 4, 4)
    there = turned(images, view)
    torch.testing.assert_close(turned(there, view, back=True), images)
    assert view == 0 or not torch.equal(there, images)


def test_images_turned_together_are_those_turned_one_by_one() -> None:
    images, views = torch.rand(9, 3, 2, 5, 5), torch.tensor([5, 0, 1, 2, 3, 4, 5, 6, 7])
    expected = torch.stack([turned(image, int(view)) for image, view in zip(images, views, strict=True)])
    assert torch.equal(turn_each(images, turns(5)[views]), expected)
    assert torch.equal(turn_each(images > 0.5, turns(5)[views]), expected > 0.5)

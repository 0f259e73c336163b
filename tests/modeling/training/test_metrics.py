import math

import numpy as np
import pytest
import torch

from modeling.training.metrics import RunningMeans


class OtherRanks:
    """Adds the sums of other ranks, as an all-reduce does."""

    def __init__(self, *others: RunningMeans) -> None:
        self.others = others

    def sum(self, values: list[float]) -> list[float]:
        flat = [np.concatenate([*means.totals.values(), *means.counts.values()]) for means in self.others]
        return (np.array(values) + sum(flat)).tolist()


def measured(num_galaxies: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mae = torch.rand(num_galaxies, 3, generator=generator)
    mae[0, 1] = math.nan
    return {"loss": torch.rand(num_galaxies, generator=generator), "mae": mae}


def test_parts_add_up_to_the_whole_over_batches_ranks_and_interruptions() -> None:
    batches = [measured(count, seed) for seed, count in enumerate((4, 1, 3))]
    whole = RunningMeans()
    whole.add({name: torch.cat([batch[name] for batch in batches]) for name in batches[0]})
    first, second = RunningMeans(), RunningMeans.empty({"loss": 1, "mae": 3})
    first.add(batches[0])
    first = RunningMeans.from_json(first.to_json())
    first.add(batches[1])
    second.add(batches[2])
    together = first.reduce(OtherRanks(second, RunningMeans.empty({"loss": 1, "mae": 3})))
    names = {"mae": ["a", "b", "c"]}
    assert together.by_name("validation", names) == pytest.approx(whole.by_name("validation", names))
    mae = torch.cat([batch["mae"] for batch in batches])
    assert together.by_name("validation", names)["validation_mae/b"] == pytest.approx(mae[:, 1].nanmean().item())


def test_what_no_galaxy_has_is_left_out() -> None:
    means = RunningMeans.empty({"loss": 1, "mae": 2})
    means.add({"loss": torch.tensor([1.0, 3.0]), "mae": torch.tensor([[1.0, math.nan], [2.0, math.nan]])})
    assert means.by_name("train", {"mae": ["a", "b"]}) == {"train_loss": 2.0, "train_mae/a": 1.5}
    assert means.by_name("train") == {"train_loss": 2.0}

"""Which process the chaos test kills next."""

import numpy as np
import pytest

from tests.chaos import Tally

VICTIMS = {"prepare": ("driver", "worker", "s3"), "score": ("driver", "worker", "s3", "mlflow")}


def kill_all(tally: Tally, *, worker_lives_until: float = 1) -> None:
    while any(tally.left.values()):
        for step in [step for step, left in tally.left.items() if left]:
            kind, fraction = tally.wanted(step)
            tally.count(step, kind, killed=kind != "worker" or fraction < worker_lives_until)


@pytest.mark.parametrize("seed", range(5))
def test_each_kind_is_killed_equally_often_in_each_step(seed: int) -> None:
    tally = Tally(VICTIMS, 14, np.random.default_rng(seed))
    kill_all(tally)
    for kinds in tally.killed.values():
        assert sum(kinds.values()) == 7
        assert max(kinds.values()) - min(kinds.values()) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_kind_that_lives_but_for_a_moment_is_looked_for_earlier_until_it_is_hit(seed: int) -> None:
    tally = Tally(VICTIMS, 40, np.random.default_rng(seed))
    kill_all(tally, worker_lives_until=0.2)
    assert all(kinds["worker"] >= 2 for kinds in tally.killed.values())
    assert sum(sum(kinds.values()) for kinds in tally.killed.values()) == 40


def test_a_kind_that_is_never_there_stops_nothing() -> None:
    tally = Tally(VICTIMS, 14, np.random.default_rng(0))
    kill_all(tally, worker_lives_until=0)
    assert tally.left == {"prepare": 0, "score": 0}
    assert all(kinds["worker"] == 0 for kinds in tally.killed.values())

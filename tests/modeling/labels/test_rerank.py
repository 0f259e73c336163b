"""Few labels give more detections, on synthetic latents where artefacts score higher than the galaxies wanted."""

import numpy as np
import pytest

from modeling.labels.rerank import PRIOR_TOP, Reranker, ask_next, features_of
from modeling.latents.neighbours import standardise


class World:
    """Galaxies in eight clusters; 50 wanted and 150 artefacts lie off along directions of their own."""

    def __init__(self, seed: int, num: int = 1500) -> None:
        rng = np.random.default_rng(seed)
        spectrum = 1 / np.sqrt(1 + np.arange(32))
        latent = (
            rng.normal(size=(num, 32)) * spectrum
            + (1.2 * rng.normal(size=(8, 32)) * spectrum)[rng.integers(8, size=num)]
        )
        self.wanted, artefact = np.arange(num) < 50, (np.arange(num) >= 50) & (np.arange(num) < 200)
        for kind, shift in zip((self.wanted, artefact), rng.normal(size=(2, 32)), strict=True):
            latent[kind] += 2.0 * shift / np.linalg.norm(shift)
        self.latent = standardise(latent)
        self.score = rng.normal(size=num) + 1.5 * self.wanted + 2 * artefact
        self.scores = np.stack([self.score, self.score + rng.normal(size=num)], axis=1)
        self.objects = np.arange(num).astype(str)
        self.reranker = Reranker(self.latent, self.score, self.scores)

    def label(self, rounds: int, num: int) -> dict[int, bool]:
        """Ranking after so many rounds of labelling the galaxies that it asks for."""
        labels: dict[int, bool] = {}
        for _ in range(rounds):
            asked = ask_next(self.reranker, labels, self.objects, num)
            labels |= {int(row): bool(self.wanted[row]) for row in asked}
        return labels


@pytest.mark.parametrize("seed", range(3))
def test_forty_labels_raise_the_finds_among_the_first_50(seed: int) -> None:
    world = World(seed)
    labels = world.label(rounds=4, num=10)
    before = world.wanted[np.argsort(-world.score)[:50]].sum()
    found = world.reranker(labels)
    assert len(labels) == 40
    assert world.wanted[found.rank <= 50].sum() >= 2 * before + 5
    unseen = np.setdiff1d(np.flatnonzero(found.rank <= 50), list(labels))
    assert world.wanted[unseen].sum() >= before  # not only those that were looked at


@pytest.mark.parametrize("seed", range(3))
def test_looking_where_it_asks_finds_more_than_going_down_the_list(seed: int) -> None:
    world = World(seed)
    labels = world.label(rounds=4, num=10)
    assert sum(labels.values()) >= 2 * world.wanted[np.argsort(-world.score)[:40]].sum()


def test_without_labels_the_ranking_is_that_of_the_score() -> None:
    world = World(0, num=300)
    found = world.reranker({})
    np.testing.assert_array_equal(np.argsort(found.rank), np.argsort(-world.score, kind="stable"))
    assert found.value.max() == PRIOR_TOP


def test_a_label_moves_what_is_alike_and_little_else() -> None:
    rng = np.random.default_rng(0)
    latent = np.r_[rng.normal(size=(50, 4)), 20 + rng.normal(size=(50, 4))]
    score = rng.normal(size=100)
    before = Reranker(latent, score, score[:, None])({})
    found = Reranker(latent, score, score[:, None])({0: True, 1: True, 2: True})
    change = found.value - before.value
    assert change[3:50].mean() > 0.3
    assert abs(change[50:].mean()) < 0.4 * change[3:50].mean()
    assert found.uncertainty[3:50].mean() < found.uncertainty[50:].mean()


def test_a_labelled_galaxy_is_expected_to_have_its_label_wherever_it_ranked() -> None:
    world = World(0, num=300)
    order = np.argsort(-world.score)
    labels = {int(order[0]): True, int(order[1]): False, int(order[-1]): True}
    found = world.reranker(labels)
    np.testing.assert_allclose(found.value[list(labels)], list(labels.values()), atol=0.15)


@pytest.mark.parametrize("reason", ["by_line", "hypothesis"])
def test_labels_raise_what_is_unusual_for_the_same_reason(reason: str) -> None:
    """Latents and scores are alike: only the reason tells the wanted galaxies from the others."""
    rng = np.random.default_rng(0)
    latent, score = rng.normal(size=(200, 6)), rng.normal(size=200)
    wanted = np.arange(200) % 4 == 0
    reasons = {
        "by_line": np.where((np.arange(3) == 0) == wanted[:, None], 40.0, 0.0),
        "hypothesis": np.where(wanted, "metal_poor", "wing"),
    }
    labels = {0: True, 4: True, 1: False, 2: False}
    others = ~np.isin(np.arange(200), list(labels))
    found = Reranker(latent, score, score[:, None], **{reason: reasons[reason]})(labels)
    without = Reranker(latent, score, score[:, None])(labels)
    gap, gap_without = (
        np.median(one.rank[others & ~wanted]) - np.median(one.rank[others & wanted]) for one in (found, without)
    )
    assert gap > 80
    assert abs(gap_without) < 40


def test_one_galaxy_of_each_object_is_asked_for_and_none_twice() -> None:
    world = World(0, num=300)
    objects = np.repeat(np.arange(150).astype(str), 2)
    labels = dict.fromkeys(range(0, 20, 2), True)
    asked = ask_next(world.reranker, labels, objects, 30)
    assert len(set(objects[asked])) == 30
    assert not set(objects[asked]) & set(objects[list(labels)])
    assert len(ask_next(world.reranker, labels, objects, 1000)) == 140


def test_galaxies_that_are_asked_for_together_are_not_all_alike() -> None:
    """Of two kinds among ordinary galaxies, one scores a little higher: a list by score begins with that one alone."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], [92, 4, 4])
    latent = 0.1 * rng.normal(size=(100, 4)) + np.array([[0, 0, 0, 0], [3, 0, 0, 0], [0, 3, 0, 0]])[kind]
    score = np.array([0.0, 3.0, 2.9])[kind] + 0.01 * rng.normal(size=100)
    asked = ask_next(Reranker(latent, score, score[:, None]), {}, np.arange(100), 4)
    assert set(kind[np.argsort(-score)[:4]]) == {1}
    assert set(kind[asked]) == {1, 2}


def test_latents_and_scores_that_say_nothing_do_no_harm() -> None:
    score = np.r_[np.nan, np.arange(9.0)]
    found = Reranker(np.zeros((10, 3)), score, score[:, None])({3: True, 5: False})
    assert np.isfinite(found.value).all()
    assert np.isfinite(features_of(np.zeros((10, 3)), np.zeros((10, 1)))).all()
    assert sorted(found.rank) == list(range(1, 11))

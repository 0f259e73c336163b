"""Classes of galaxies learned from labels: probabilities hold, and are of heads that have not seen the object."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from modeling.labels import classes
from modeling.labels.classes import MIN_OBJECTS, Features, Head, classify, few_objects
from modeling.labels.head_file import HeadError, read_heads, write_heads


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals have tests of their own, and a thousand draws take a second of a processor."""
    monkeypatch.setattr(classes, "NUM_BOOTSTRAP", 100)


class World:
    """Galaxies whose odds of a label are linear in their latents."""

    def __init__(self, num: int = 900, offset: float = 0.0, slope: float = 1.5) -> None:
        rng = np.random.default_rng(0)
        self.latent = rng.normal(size=(num, 12))
        self.scores = rng.normal(size=(num, 2))
        self.true = expit(slope * (self.latent[:, 0] - self.latent[:, 1]) + offset)
        self.labelled = rng.random(num) < self.true
        self.objects = np.arange(num).astype(str)
        features = Features.of(self.latent, ("score", "score_mae"))
        self.features = features(self.latent, self.scores)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, -4.0])
def test_probabilities_are_true_also_of_a_rare_class(offset: float) -> None:
    world, rows = World(offset=offset), np.arange(600)
    found = classify(world.features, world.objects, rows, world.labelled[rows])
    assert found.quality.auroc.low > 0.65
    assert found.quality.average_precision.value > 1.5 * world.labelled[rows].mean()
    assert found.quality.brier < found.quality.brier_of_share
    for part in (rows, np.arange(600, 900)):
        by_share = np.abs(world.true.mean() - world.true[part]).mean()
        assert np.abs(found.probability[part] - world.true[part]).mean() < 0.6 * by_share
        assert found.probability[part].mean() == pytest.approx(world.labelled[part].mean(), abs=0.03)
    np.testing.assert_allclose(found.quality.reliability[:, 0], found.quality.reliability[:, 1], atol=0.15)
    assert found.quality.reliability[:, 2].sum() == 600


@pytest.mark.slow
def test_labels_that_the_features_do_not_tell_get_their_share() -> None:
    world = World(slope=0.0, offset=-1.0)
    found = classify(world.features, world.objects, np.arange(300), world.labelled[:300])
    assert found.quality.auroc.low < 0.55
    assert np.abs(found.probability - world.labelled[:300].mean()).max() < 0.2


@pytest.mark.slow
def test_observations_of_an_object_are_left_out_together() -> None:
    """Pairs with the same features and the same random label: who sees one of a pair knows the other."""
    rng = np.random.default_rng(1)
    latent = np.repeat(rng.normal(size=(80, 60)), 2, axis=0)
    labelled = np.repeat(rng.random(80) < 0.5, 2)
    objects = np.repeat(np.arange(80), 2).astype(str)
    features = Features.of(latent, ("score",))(latent, np.zeros((160, 1)))
    known = classify(features, objects, np.arange(160), labelled)
    assert known.quality.auroc.low < 0.5 < known.quality.auroc.high
    seen = classify(features, np.arange(160).astype(str), np.arange(160), labelled)
    assert seen.quality.auroc.low > 0.7
    # The second of each pair has no label, but its object has: its probability is of a head that saw neither.
    half = classify(features, objects, np.arange(0, 160, 2), labelled[::2])
    np.testing.assert_allclose(half.probability[1::2], half.probability[::2])
    assert not np.allclose(half.head.probability(features), half.probability, atol=0.01)


@pytest.mark.slow
def test_galaxies_without_labels_get_the_probability_of_the_head_that_is_kept() -> None:
    world, rows = World(num=200), np.arange(150)
    found = classify(world.features, world.objects, rows, world.labelled[rows])
    np.testing.assert_allclose(found.probability[150:], found.head.probability(world.features)[150:])
    again = classify(world.features, world.objects, rows, world.labelled[rows])
    np.testing.assert_array_equal(found.probability, again.probability)


def test_objects_are_counted_and_not_observations() -> None:
    objects = np.array([f"1-{i // 2}" for i in range(80)])
    labelled = np.arange(80) < 2 * MIN_OBJECTS - 2
    few = few_objects({"merger": labelled, "half": np.arange(80) < 40}, objects)
    assert few == {"merger": (MIN_OBJECTS - 1, 31)}
    with pytest.raises(ValueError, match="9 objects with the label, 31 without: 10 are needed of both"):
        classify(np.zeros((80, 1)), objects, np.arange(80), labelled)


def test_a_latent_that_is_switched_off_and_the_unit_of_scores_have_no_influence() -> None:
    world = World(num=50)
    latent = np.concatenate([world.latent, np.full((50, 1), 3.0)], axis=1)
    features = Features.of(latent, ("score", "score_mae"))
    found = features(latent, world.scores)
    assert (found[:, 12] == 0).all()
    assert found[:, :12].var(axis=0).sum() == pytest.approx(1)
    np.testing.assert_array_equal(found, features(latent, np.exp(5 * world.scores)))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    world = World(num=50)
    head = Head(np.arange(14.0), 0.5, 10.0)
    features = Features.of(world.latent, ("score", "score_mae"))
    path = tmp_path / "classes.json"
    write_heads(path, {"merger": head}, features, model_digest="abc", quality={}, provenance={"seed": 1})
    return path


def test_heads_are_plain_numbers_and_the_same_when_read(written: Path) -> None:
    world, found = World(num=50), read_heads(written)
    assert (found.model_digest, found.scores, list(found.heads)) == ("abc", ["score", "score_mae"], ["merger"])
    values = found.features(world.latent, world.scores)
    np.testing.assert_array_equal(values, world.features)
    expected = expit(world.features @ np.arange(14.0) + 0.5)
    np.testing.assert_allclose(found.head("merger").probability(values), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format: Input should be 'cubescout-classes'"),
        ({"format_version": 2}, "format_version: Input should be 1"),
        ({"mean": [0.0]}, "one value for each of 3 features"),
        ({"heads": {}}, "heads: Dictionary should have at least 1 item"),
        ({"nonsense": 1}, "nonsense: Extra inputs are not permitted"),
    ],
)
def test_a_file_that_is_none_is_named(written: Path, change: dict[str, object], message: str) -> None:
    written.write_text(json.dumps(json.loads(written.read_text()) | change))
    with pytest.raises(HeadError, match=message):
        read_heads(written)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"none.json: cannot be read"):
        read_heads(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"form')
    with pytest.raises(HeadError, match=r"half.json: no heads of Cubescout \(file: Invalid JSON"):
        read_heads(tmp_path / "half.json")

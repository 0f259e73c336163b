"""Views made by the loader are those that `prepare` would have written."""

from collections.abc import Iterable

import pytest
import torch

from cubeprep.augment import AugmentConfig
from cubeprep.cluster import DaskConfig
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.split import SplitConfig
from cubeprep.store import WindowStore
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig
from modeling.network.config import ModelConfig
from modeling.training.config import TrainConfig, TrainingJob
from modeling.training.context import LocalContext
from modeling.training.loader import Batch, Loader, RankShare
from modeling.training.ray_train import train_rank
from tests.logcube import write_survey

AUGMENT = {"num_views": 3, "max_shift": 2, "max_dimming": 0.5, "max_psf_sigma": 1.0}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, WindowStore]:
    """The same galaxies with views in the store and without; one in the middle of a shard is set aside."""
    folder = tmp_path_factory.mktemp("views")
    root = write_survey(folder / "survey", {f"8000-{i}": 0.02 + 0.005 * i for i in range(8)}, size=9)
    (root / "8000" / "stack" / "manga-8000-1-LOGCUBE.fits.gz").write_bytes(b"")
    made = {}
    for where in ("store", "loader"):
        config = PrepareConfig(
            windows=WindowConfig(size=8, lines=("Hb-4862", "Ha-6564")),
            augment=AugmentConfig(where=where, **AUGMENT),
            split=SplitConfig(validation=0.2, test=0),
            galaxies_per_shard=3,
            dask=DaskConfig(num_workers=0),
        )
        prepare(config, SurveyConfig(root=str(root)), str(folder / where), seed=5)
        made[where] = WindowStore.open(str(folder / where))
    return made


def assert_same(got: Iterable[Batch], want: Iterable[Batch]) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_store_holds_one_row_a_galaxy(stores: dict[str, WindowStore]) -> None:
    assert stores["store"].num_rows("train") == 3 * stores["loader"].num_rows("train") == 15
    assert stores["store"].identity != stores["loader"].identity
    assert stores["loader"].attrs["config"]["prepare"]["augment"]["num_views"] == 3


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_are_the_same_to_the_last_bit(stores: dict[str, WindowStore], split: str, world_size: int) -> None:
    for rank in range(world_size):
        written, made = (
            Loader(stores[where], split, batch_size=4, share=RankShare(rank, world_size), seed=1, buffer_rows=6)
            for where in ("store", "loader")
        )
        assert written.num_batches() == made.num_batches()
        for epoch in (0, 1):
            assert_same(made.training(epoch), written.training(epoch))
        assert_same(made.evaluation(), written.evaluation())


def test_views_differ_and_last_over_epochs(stores: dict[str, WindowStore]) -> None:
    loader = Loader(stores["loader"], "train", batch_size=1)
    first, second = ([batch["flux"] for batch in loader.evaluation()] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(first[0], other) for other in first[1:])


def test_training_has_the_same_losses(stores: dict[str, WindowStore]) -> None:
    histories = []
    for where in ("store", "loader"):
        model = ModelConfig(latent_dim=4, step_channels=4, lstm_channels=4, decoder_channels=4)
        train = TrainConfig(epochs=1, batch_size=4, num_workers=0, threads=1)
        context = LocalContext()
        train_rank(TrainingJob(store=stores[where].path, model=model, train=train), context)
        histories.append(
            [{key: value for key, value in metrics.items() if "loss" in key} for metrics in context.history]
        )
    assert histories[0] == histories[1]
    assert histories[0][0]

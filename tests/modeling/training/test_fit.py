import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cubeprep.store import WindowStore
from modeling.network.autoencoder import ConvLSTMAutoencoder, make_model
from modeling.network.checkpoint import load_model, read_training_state, save_model
from modeling.network.config import ModelConfig
from modeling.network.make import make_network
from modeling.training import fit as fit_module
from modeling.training.config import TrainConfig, TrainingJob
from modeling.training.context import LocalContext
from modeling.training.fit import Batch, Batches, DivergedError, fit, make_optimizer
from modeling.training.loader import Loader, RankShare
from modeling.training.ray_train import Trained, take_best, train, train_rank
from tests.synthetic import synthetic_store

MODEL: dict[str, Any] = {"latent_dim": 8, "step_channels": 6, "lstm_channels": 6, "decoder_channels": 6}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return synthetic_store(tmp_path_factory.mktemp("fit") / "w.zarr", shape=(3, 4, 8), num_train=13)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    """Windows of which something can be learnt."""
    return synthetic_store(tmp_path_factory.mktemp("larger") / "w.zarr", shape=(3, 4, 16), num_train=13)


def job(store: WindowStore, *, kind: str = "ae", spaxel_code: int = 4, **train: Any) -> TrainingJob:
    values = {"epochs": 3, "batch_size": 8, "num_workers": 0, "threads": 1, "schedule": "constant"} | train
    if kind == "masked":
        values["loss"] = "student-t"
    model = ModelConfig(kind=kind, spaxel_code=spaxel_code, context_channels=8, **MODEL)
    return TrainingJob(store=store.path, model=model, train=TrainConfig(**values))


def same_weights(a: Path, b: Path) -> bool:
    pairs = zip(load_model(a)[0].parameters(), load_model(b)[0].parameters(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def test_a_model_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, target = tmp_path / "checkpoint", tmp_path / "models" / "m"
    save_model(checkpoint / "best", make_model({"num_lines": 2, "num_samples": 3, "size": 8, "latent_dim": 4}, 0), {})
    (checkpoint / "training.json").write_text(json.dumps({"best": {}, "history": [], "step": 0, "means": {}}))
    take_best(checkpoint, target)
    copy = shutil.copytree

    def cut(source: Path, new: Path) -> None:
        copy(source, new)
        (new / "model.safetensors").write_bytes(b"")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", cut)
        with pytest.raises(KeyboardInterrupt):
            take_best(checkpoint, target)
    assert same_weights(target, checkpoint / "best")
    take_best(checkpoint, target)
    assert [path.name for path in target.parent.iterdir()] == ["m"]


def test_a_training_in_this_process_leaves_its_threads_as_they_were(store: WindowStore) -> None:
    before, inside = torch.get_num_threads(), []
    train_rank(job(store, epochs=1, threads=3), LocalContext(), lambda *_: inside.append(torch.get_num_threads()))
    assert set(inside) == {3}
    assert torch.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "optimizer"), [("ae", "adamw"), ("vae", "adagrad")])
def test_training_lowers_the_loss_below_that_of_predicting_nothing(
    larger: WindowStore, kind: str, optimizer: str
) -> None:
    context = LocalContext()
    # Without codes of spaxels, whose loss would come on top of the error.
    train_rank(job(larger, kind=kind, spaxel_code=0, epochs=30, optimizer=optimizer, lr=0.02), context)
    key = "validation_reconstruction" if kind == "vae" else "validation_loss"
    losses = [metrics[key] for metrics in context.history]
    model = ConvLSTMAutoencoder(**ModelConfig(**MODEL).arguments(larger.shape))
    shards = [larger.read_shard("validation", k) for k in range(larger.num_shards("validation"))]
    nothing = []
    for windows in shards:
        good = torch.from_numpy(windows.mask == 0)
        normalised, _ = model.normalise(torch.from_numpy(windows.flux), good)
        nothing += [row[mask].abs().mean().item() for row, mask in zip(normalised, good, strict=True)]
    assert losses[-1] < 0.9 * losses[0]
    assert losses[-1] < 0.8 * np.mean(nothing)


@pytest.mark.slow
def test_codes_of_spaxels_leave_less_over_from_the_start_on_and_are_trained(larger: WindowStore) -> None:
    plain, coded = LocalContext(), LocalContext()
    train_rank(job(larger, spaxel_code=0, epochs=4), plain)
    train_rank(job(larger, spaxel_code=4, epochs=4, lr=0.005), coded)
    assert coded.history[0]["validation_chi2"] < 0.5 * plain.history[0]["validation_chi2"]
    assert coded.history[-1]["train_loss"] < 0.95 * coded.history[0]["train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ae", "vae", "masked"])
def test_same_seed_gives_the_same_weights_and_another_does_not(store: WindowStore, tmp_path: Path, kind: str) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_rank(job(store, kind=kind).model_copy(update={"seed": seed}), LocalContext(tmp_path / name))
    assert same_weights(tmp_path / "a/last", tmp_path / "b/last")
    assert not same_weights(tmp_path / "a/last", tmp_path / "c/last")


class Interrupted(LocalContext):
    """Dies as the second epoch is reported, before its checkpoint is kept."""

    def report(self, metrics: dict[str, float] | None, checkpoint: Path | None) -> None:
        if metrics and metrics["epoch"] == 1:
            raise KeyboardInterrupt
        super().report(metrics, checkpoint)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "optimizer"), [("ae", "adagrad"), ("vae", "adamw"), ("masked", "adamw")])
def test_resumed_run_equals_an_undisturbed_one(store: WindowStore, tmp_path: Path, kind: str, optimizer: str) -> None:
    work = job(store, kind=kind, optimizer=optimizer, schedule="cosine", epochs=3)
    train_rank(work, LocalContext(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_rank(work, Interrupted(tmp_path / "parts"))
    assert json.loads((tmp_path / "parts/last/training.json").read_text())["history"][-1]["epoch"] == 0
    train_rank(work, LocalContext(tmp_path / "parts"))
    assert same_weights(tmp_path / "whole/last", tmp_path / "parts/last")
    whole, parts = (json.loads((tmp_path / name / "last/training.json").read_text()) for name in ("whole", "parts"))
    assert whole == parts


class Killed(LocalContext):
    """Dies as a given report is made: nothing of it is kept."""

    def __init__(self, directory: Path, at_report: int) -> None:
        super().__init__(directory)
        self.reports_left = at_report

    def report(self, metrics: dict[str, float] | None, checkpoint: Path | None) -> None:
        if self.reports_left == 0:
            raise KeyboardInterrupt
        self.reports_left -= 1
        super().report(metrics, checkpoint)


@pytest.fixture(scope="module")
def in_steps(store: WindowStore) -> TrainingJob:
    """12 galaxies in two views: 6 steps of 4 rows; reports after steps 2 and 4 and at the end of each epoch."""
    return job(store, kind="vae", optimizer="adamw", batch_size=4, epochs=3, checkpoint_steps=2, kl_warmup_epochs=1.5)


@pytest.fixture(scope="module")
def whole_run(in_steps: TrainingJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train_rank(in_steps, LocalContext(folder))
    return folder / "last"


@pytest.mark.slow
@pytest.mark.parametrize("at_report", [1, 2, 5, 6])
def test_a_run_killed_within_an_epoch_goes_on_at_the_step_of_its_last_checkpoint(
    in_steps: TrainingJob, whole_run: Path, tmp_path: Path, at_report: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_rank(in_steps, Killed(tmp_path / "parts", at_report))
    steps: list[tuple[float, float]] = []
    train_rank(
        in_steps,
        LocalContext(tmp_path / "parts"),
        lambda event, metrics: steps.append((metrics["epoch"], metrics["step"])) if event == "step" else None,
    )
    epochs, within = divmod(at_report, 3)
    assert steps[0] == (epochs, 2 * within)
    assert same_weights(whole_run, tmp_path / "parts/last")
    whole, parts = (json.loads((last / "training.json").read_text()) for last in (whole_run, tmp_path / "parts/last"))
    assert whole == parts


class Rank(LocalContext):
    """One rank of several that a test steps through in turn; it keeps the gradient of its last step."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__()
        self.rank, self.world_size = rank, world_size


def gradients(
    store: WindowStore, share: RankShare, *, epoch: int, step: int, streams: int, kind: str
) -> list[torch.Tensor]:
    """Of one training step on one rank, before any exchange."""
    work = job(store, kind=kind, batch_size=7, epochs=2, grad_clip=None)
    model = make_network(work.model, store.shape, store.line_names, seed=0)
    loader = Loader(store, "train", batch_size=7, share=share)

    def one(*_: int) -> list[Batch]:
        return [next(loader.training(epoch, step, streams))]

    fit(model, Batches(one, 1, None), work.train.model_copy(update={"epochs": 1}), Rank(share.rank, share.world_size))
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("kind", ["ae", "masked"])
def test_the_mean_gradient_of_ranks_is_that_of_one_process(
    store: WindowStore, world_size: int, step: int, kind: str
) -> None:
    # 24 rows in batches of 7: uneven parts, and a last batch of 3.
    place: dict[str, Any] = {"epoch": 1, "step": step, "streams": 2, "kind": kind}
    alone = gradients(store, RankShare(), **place)
    ranks = [gradients(store, RankShare(r, world_size), **place) for r in range(world_size)]
    assert len(alone) > 10
    for whole, *parts in zip(alone, *ranks, strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(dim=0), whole, rtol=1e-4, atol=1e-5)


def test_a_training_goes_on_with_the_batches_of_the_ranks_that_it_began_with(
    store: WindowStore, tmp_path: Path
) -> None:
    asked: list[tuple[int, ...]] = []

    def batches() -> Batches:
        loader = Loader(store, "train", batch_size=8)

        def training(*place: int) -> Iterator[Batch]:
            asked.append(place)
            return loader.training(*place)

        return Batches(training, loader.num_batches(), None)

    def part(epochs: int, context: LocalContext) -> None:
        model = make_model(ModelConfig(**MODEL).arguments(store.shape), seed=0)
        fit(model, batches(), TrainConfig(epochs=epochs), context)

    began = LocalContext(tmp_path)
    began.world_size = 2
    part(1, began)
    part(2, LocalContext(tmp_path))
    assert asked == [(0, 0, 2), (1, 0, 2)]


@pytest.mark.parametrize("rank", [0, 1])
def test_what_an_epoch_summed_before_an_interruption_is_counted_by_one_rank(
    store: WindowStore, tmp_path: Path, rank: int
) -> None:
    loader = Loader(store, "train", batch_size=4)
    losses: list[float] = []

    def part(context: LocalContext, checkpoint_steps: int | None) -> float:
        model = make_model(ModelConfig(**MODEL).arguments(store.shape), seed=0)
        batches = Batches(loader.training, loader.num_batches(), None)
        config = TrainConfig(epochs=1, checkpoint_steps=checkpoint_steps)
        metrics = fit(
            model, batches, config, context, listener=lambda event, said: losses.append(said.get("loss", math.nan))
        )
        return metrics["train_loss"]

    with pytest.raises(KeyboardInterrupt):
        part(Killed(tmp_path, 1), 2)
    before, context = losses[:2], LocalContext(tmp_path)
    losses.clear()
    context.rank = rank
    mean = part(context, None)
    after = losses[:-1]  # without the end of the epoch
    assert mean == pytest.approx(np.mean(after if rank else before + after), rel=1e-5)
    assert mean != pytest.approx(np.mean(before + after if rank else after), rel=1e-3)


def test_ranks_draw_latents_of_their_own(store: WindowStore) -> None:
    batch = next(Loader(store, "train", batch_size=4).training(0))

    def loss(rank: int) -> float:
        model = make_model(ModelConfig(kind="vae", **MODEL).arguments(store.shape), seed=0)
        batches = Batches(lambda *_: [batch], 1, None)
        return fit(model, batches, TrainConfig(epochs=1), Rank(rank, 2))["train_reconstruction"]

    assert loss(0) == loss(0)
    assert loss(0) != loss(1)


def test_checkpoints_within_epochs_change_nothing(store: WindowStore, tmp_path: Path) -> None:
    train_rank(job(store), LocalContext(tmp_path / "without"))
    train_rank(job(store, checkpoint_steps=1), LocalContext(tmp_path / "with"))
    assert same_weights(tmp_path / "without/last", tmp_path / "with/last")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["gaussian", "student-t"])
def test_likelihoods_train_and_report_what_they_mean(larger: WindowStore, loss: str) -> None:
    context = LocalContext()
    train_rank(job(larger, kind="vae", loss=loss, epochs=12, lr=0.02, optimizer="adagrad"), context)
    first, last = context.history[0], context.history[-1]
    assert last["validation_loss"] < first["validation_loss"]
    assert last["validation_chi2"] < first["validation_chi2"]
    assert {f"validation_mae/{name}" for name in larger.line_names} < set(last)
    assert 0 <= last["validation_active_latents"] <= MODEL["latent_dim"]


def test_best_model_is_that_of_the_lowest_validation_loss(store: WindowStore, tmp_path: Path) -> None:
    loader = Loader(store, "train", batch_size=8)
    offsets = iter([3.0, 0.0, 3.0, 3.0])

    def validation() -> Iterator[Batch]:
        # Far from anything learnt, but in the second epoch.
        offset = next(offsets)
        for batch in loader.evaluation():
            sign = torch.where(torch.rand(batch["flux"].shape) > 0.5, 1.0, -1.0)
            yield batch | {"flux": batch["flux"] + offset * sign}

    def trained(epochs: int, batches: Batches) -> Path:
        directory = tmp_path / str(epochs)
        model = make_model(ModelConfig(**MODEL).arguments(store.shape), seed=0)
        config = TrainConfig(epochs=epochs, schedule="constant")
        fit(model, batches, config, LocalContext(directory), metadata={"line_names": store.line_names})
        return directory / "last"

    last = trained(4, Batches(loader.training, loader.num_batches(), validation))
    _, metadata = load_model(last / "best")
    assert metadata["metrics"]["epoch"] == 1
    assert metadata["line_names"] == store.line_names
    after_two_epochs = trained(2, Batches(loader.training, loader.num_batches(), None))
    assert same_weights(last / "best", after_two_epochs)
    assert not same_weights(last / "best", last)


def test_a_finished_run_is_not_trained_again(store: WindowStore, tmp_path: Path) -> None:
    events: list[str] = []
    for _ in range(2):
        trained = train(
            job(store),
            name="run",
            storage=str(tmp_path / "s"),
            target=tmp_path / "model",
            listener=lambda event, metrics: events.append(event),
        )
        assert len(trained.history) == 3
    assert events.count("epoch") == 3


def test_without_validation_the_training_loss_decides(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", shape=(2, 2, 8), num_train=4, num_validation=0)
    trained = train(job(store), name="run", storage=str(tmp_path / "s"), target=tmp_path / "model")
    assert not any(key.startswith("validation") for key in trained.best)
    assert trained.best["best_loss"] == min(metrics["train_loss"] for metrics in trained.history)
    loss, measure = trained.selection_loss(job(store))
    assert loss == trained.best["train_loss"]
    assert measure.startswith("train mae with the settings ")
    assert trained.selection_loss(job(store, lr=0.1))[1] != measure


def test_trainings_are_compared_by_the_likelihood_whatever_their_loss(store: WindowStore, tmp_path: Path) -> None:
    chosen = [job(store, epochs=1, spaxel_code=code, loss=loss) for code, loss in ((4, "mae"), (0, "student-t"))]
    for number, one in enumerate(chosen):
        trained = train(one, name=f"run{number}", storage=str(tmp_path / "s"), target=tmp_path / "model")
        assert trained.selection_loss(one) == (trained.best["validation_nll"], "validation nll")
    masked = [job(store, kind="masked"), job(store, kind="masked")]
    masked[1] = masked[1].model_copy(update={"model": masked[1].model.model_copy(update={"hidden_side": 3})})
    trained = Trained(tmp_path, {"validation_nll": 1.0}, [])
    measures = [trained.selection_loss(one)[1] for one in masked]
    assert measures[0] == "validation nll, student-t, of hidden squares of 5 x 5 spaxels"
    assert measures[1] == "validation nll, student-t, of hidden squares of 3 x 3 spaxels"


@pytest.mark.parametrize("what", ["weights", "the validation loss"])
def test_a_training_that_diverges_at_the_end_of_an_epoch_keeps_its_last_checkpoint(
    what: str, store: WindowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means leave out NaN: the training loss must not stand in for the validation loss."""
    validate = fit_module._Trainer.validate

    def broken(loop: Any, batches: Any) -> Any:
        if loop.epoch == 1:
            if what == "weights":
                with torch.no_grad():
                    next(loop.model.parameters()).fill_(math.nan)
            return {key: value for key, value in validate(loop, batches).items() if key != "validation_loss"}
        return validate(loop, batches)

    monkeypatch.setattr(fit_module._Trainer, "validate", broken)
    with pytest.raises(DivergedError, match=f"{what} became NaN or infinite in epoch 1"):
        train(job(store), name="run", storage=str(tmp_path), target=tmp_path / "model")
    assert len(read_training_state(tmp_path / "run" / "last")["history"]) == 1


def test_cosine_schedule_goes_to_zero(store: WindowStore) -> None:
    context = LocalContext()
    train_rank(job(store, schedule="cosine", epochs=4, lr=0.01), context)
    rates = [metrics["lr"] for metrics in context.history]
    np.testing.assert_allclose(rates, [0.01 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)])


def test_a_diverged_loss_is_an_error_that_names_the_place() -> None:
    model = ConvLSTMAutoencoder(num_lines=1, num_samples=1, size=8, normalise="none")
    flux = torch.full((2, 1, 1, 8, 8), 3e38)
    good = torch.ones_like(flux, dtype=torch.bool)
    batches = Batches(lambda epoch, step, streams: [{"flux": flux, "ivar": flux, "good": good}], 1, None)
    with pytest.raises(DivergedError, match="epoch 0, step 0"):
        fit(model, batches, TrainConfig(loss="mse"), LocalContext())


@pytest.mark.slow
def test_bf16_trains_where_it_is_asked_for(larger: WindowStore) -> None:
    full, half = LocalContext(), LocalContext()
    train_rank(job(larger), full)
    train_rank(job(larger, bf16=True), half)
    assert half.history[-1]["validation_loss"] != full.history[-1]["validation_loss"]
    assert half.history[-1]["validation_loss"] == pytest.approx(full.history[-1]["validation_loss"], rel=0.05)


def test_unknown_optimizer_is_refused() -> None:
    class Other:
        optimizer = "sgd"

    with pytest.raises(ValueError, match="'sgd'"):
        make_optimizer(torch.nn.Linear(1, 1), Other())

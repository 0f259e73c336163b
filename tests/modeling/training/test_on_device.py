"""The loop's parts for a GPU: with stand-ins for its graphs here, and as they are on a GPU where there is one."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cubeprep.store import WindowStore
from modeling.network.autoencoder import ConvLSTMAutoencoder
from modeling.training import fit as loop
from modeling.training import on_device
from modeling.training.config import TrainConfig
from modeling.training.context import LocalContext
from modeling.training.fit import Batches, DivergedError, fit
from modeling.training.on_device import WARM_UP, Step, ahead, runs_in_half
from modeling.training.ray_train import train_rank
from tests.modeling.training.test_fit import Killed, job, same_weights
from tests.synthetic import synthetic_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return synthetic_store(tmp_path_factory.mktemp("on_device") / "w.zarr", shape=(2, 3, 8), num_train=13)


class Graph:
    """Stand-in for a CUDA graph: replays by running again what was recorded, into the tensors of the recording."""

    recording: "Graph | None" = None
    again: Callable[[], None]

    def replay(self) -> None:
        self.again()


@contextmanager
def record(graph: Graph, capture_error_mode: str) -> Iterator[None]:
    Graph.recording = graph
    yield
    Graph.recording = None


def step(graph: bool) -> tuple[Step, torch.nn.Linear, list[int]]:
    """A step whose passes are counted."""
    torch.manual_seed(0)
    model, calls = torch.nn.Linear(3, 1), []

    def run(tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
        calls.append(len(tensors[0]))
        model.zero_grad(set_to_none=True)
        losses_B = model(tensors[0])[:, 0].square()
        losses_B.mean().backward()
        losses = {"loss": losses_B.detach()}
        if Graph.recording is not None:
            grads = [parameter.grad for parameter in model.parameters()]

            def again() -> None:
                new = run(tensors)["loss"]
                losses["loss"].copy_(new)
                for old, parameter in zip(grads, model.parameters(), strict=True):
                    assert old is not None
                    old.copy_(parameter.grad)

            Graph.recording.again = again
            Graph.recording = None
        return losses

    return Step(run, list(model.parameters()), graph=graph), model, calls


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)


def test_a_recorded_step_gives_what_an_unrecorded_one_gives(graphs: None) -> None:
    (plain, model, _), (recorded, other, calls) = step(False), step(True)
    for number, size in enumerate([4] * (WARM_UP + 3) + [2, 4]):
        rows = torch.randn(size, 3, generator=torch.Generator().manual_seed(number))
        torch.testing.assert_close(recorded((rows,)), plain((rows,)), rtol=0, atol=0)
        for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)
    assert recorded.graph is not None
    assert calls.count(2) == 1  # a smaller batch runs unrecorded


@pytest.mark.parametrize("sizes", [(16, 8), (16, 16, 16, 2), (2, 16, 16, 16, 16)])
def test_the_graph_is_of_the_largest_batches(graphs: None, sizes: tuple[int, ...]) -> None:
    recorded, _, _ = step(True)
    for size in sizes * 4:
        recorded((torch.ones(size, 3),))
    assert recorded.graph is not None
    assert len(recorded.inputs[0]) == 16


def test_losses_of_a_recording_are_not_overwritten_by_the_next_step(graphs: None) -> None:
    recorded, _, _ = step(True)
    rows = [torch.full((4, 3), float(number)) for number in range(WARM_UP + 3)]
    losses = [recorded((row,))["loss"] for row in rows]
    assert not torch.equal(losses[-1], losses[-2])


def test_a_step_that_cannot_be_recorded_runs_as_it_is_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def refuse(graph: Graph, capture_error_mode: str) -> Iterator[None]:
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    recorded, _, calls = step(True)
    with caplog.at_level(logging.INFO, logger=on_device.__name__):
        for _ in range(WARM_UP + 3):
            recorded((torch.ones(4, 3),))
    assert len(calls) == WARM_UP + 3
    assert caplog.text.count("not permitted") == 1


def test_batches_on_a_cpu_are_taken_as_they_come() -> None:
    taken = []

    def batches() -> Iterator[tuple[tuple[Tensor, ...], float]]:
        for number in range(3):
            taken.append(number)
            yield (torch.tensor(number),), 1.0

    for number, (tensors, _) in enumerate(ahead(batches(), torch.device("cpu"))):
        assert int(tensors[0]) == number
        assert taken == list(range(number + 1))


@pytest.mark.parametrize(("asked", "expected"), [(True, True), (False, False), ("auto", False)])
def test_bf16_is_for_gpus_unless_it_is_asked_for(asked: Any, expected: bool) -> None:
    assert runs_in_half(asked, torch.device("cpu")) is expected


@pytest.mark.parametrize(("kind", "warned"), [(torch.float32, True), (torch.bfloat16, False)])
def test_bf16_that_a_processor_must_emulate_is_warned_of(
    kind: torch.dtype, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(on_device, "default_precision", lambda device: kind)
    assert runs_in_half(True, torch.device("cpu"))
    assert ("no matrix units for bfloat16" in caplog.text) is warned


@pytest.mark.slow
def test_losses_that_are_read_later_make_no_difference(
    store: WindowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, list[float]] = {"at once": [], "later": []}
    for name, every in (("at once", 1), ("later", 3)):
        monkeypatch.setattr(loop, "steps_read_at_once", lambda device, every=every: every)
        work = job(store, batch_size=2, epochs=2, checkpoint_steps=4)

        def listen(event: str, metrics: dict[str, float], name: str = name) -> None:
            if event == "step":
                told[name].append(metrics["loss"])

        train_rank(work, LocalContext(tmp_path / name), listen)
    assert told["later"] == told["at once"]
    assert len(told["later"]) > 8
    assert same_weights(tmp_path / "later/last", tmp_path / "at once/last")
    metrics = [(tmp_path / name / "last/training.json").read_text() for name in told]
    assert metrics[0] == metrics[1]


def test_a_loss_that_is_read_later_still_names_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "steps_read_at_once", lambda device: 3)
    model = ConvLSTMAutoencoder(num_lines=1, num_samples=1, size=8, normalise="none")
    good = torch.ones((2, 1, 1, 8, 8), dtype=torch.bool)

    def steps(epoch: int, first: int, streams: int) -> Iterator[dict[str, Tensor]]:
        for value in (1.0, 3e38, 1.0, 1.0):
            yield {"flux": torch.full(good.shape, value), "ivar": good.float(), "good": good}

    context = LocalContext(tmp_path)
    with pytest.raises(DivergedError, match="epoch 0, step 1:"):
        fit(model, Batches(steps, 4, None), TrainConfig(loss="mse", checkpoint_steps=2), context)
    assert not (tmp_path / "last").exists()


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
@pytest.mark.parametrize("kind", ["ae", "masked"])
def test_a_training_that_was_killed_goes_on_on_its_device(
    store: WindowStore, tmp_path: Path, kind: str, device: str
) -> None:
    work = job(store, kind=kind, optimizer="adamw", batch_size=2)
    whole = LocalContext(tmp_path / "whole", device)
    train_rank(work, whole)
    killed = Killed(tmp_path / "parts", 1)
    killed.device = torch.device(device)
    with pytest.raises(KeyboardInterrupt):
        train_rank(work, killed)
    parts = LocalContext(tmp_path / "parts", device)
    train_rank(work, parts)
    assert len(parts.history) == 2
    assert parts.history[-1]["train_loss"] == pytest.approx(whole.history[-1]["train_loss"], rel=1e-2)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", ["ae", "vae", "masked"])
def test_training_on_a_gpu_with_graphs_equals_one_without(store: WindowStore, tmp_path: Path, kind: str) -> None:
    losses = []
    for graphs in (False, True):
        context = LocalContext(tmp_path / str(graphs), "cuda")
        train_rank(job(store, kind=kind, batch_size=2, cuda_graphs=graphs), context)
        losses.append(context.history[-1]["train_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)

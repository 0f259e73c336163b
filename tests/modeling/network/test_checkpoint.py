import json
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch

from modeling.network.autoencoder import ConvLSTMAutoencoder, make_model
from modeling.network.checkpoint import CheckpointError, load_model, load_optimizer, save_model, save_optimizer

ARGUMENTS = {"num_lines": 3, "num_samples": 2, "size": 8, "latent_dim": 4, "variational": True}


def model(seed: int = 0) -> ConvLSTMAutoencoder:
    return make_model(ARGUMENTS, seed)


def test_model_and_metadata_come_back(tmp_path: Path) -> None:
    saved = model()
    save_model(tmp_path / "m", saved, {"line_names": ["Ha-6564"]})
    loaded, metadata = load_model(tmp_path / "m")
    assert metadata == {"line_names": ["Ha-6564"]}
    assert not loaded.training
    assert loaded.arguments == saved.arguments
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), loaded.parameters(), strict=True))
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["model.json", "model.safetensors"]


def test_models_of_format_1_are_read(tmp_path: Path) -> None:
    saved = model()
    names = {"blocks.": "", "to_gain": "decoder.to_gain"}
    weights = {}
    for name, value in saved.state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old)
        weights[name] = value
    assert {"encoder.first.weight", "encoder.second_norm.bias", "decoder.to_gain.bias"} < set(weights)
    save_model(tmp_path, saved, {}, weights=weights)
    description = json.loads((tmp_path / "model.json").read_text())
    description["format_version"] = 1
    for name in ("decoder", "bidirectional", "own_step_weights", "gradient_checkpoint_steps"):
        del description["arguments"][name]
    (tmp_path / "model.json").write_text(json.dumps(description))
    loaded, _ = load_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), loaded.parameters(), strict=True))


def test_other_weights_can_be_saved(tmp_path: Path) -> None:
    save_model(tmp_path, model(), {}, weights=model(seed=1).state_dict())
    loaded, _ = load_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model(seed=1).parameters(), loaded.parameters(), strict=True))


def test_a_full_disk_leaves_the_earlier_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device", str(self))

    save_model(tmp_path / "m", model(), {"epoch": 1})
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="No space left"):
            save_model(tmp_path / "m", model(seed=1), {"epoch": 2})
    loaded, metadata = load_model(tmp_path / "m")
    assert metadata == {"epoch": 1}
    assert all(torch.equal(a, b) for a, b in zip(model().parameters(), loaded.parameters(), strict=True))
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["model.json", "model.safetensors"]


def test_a_model_whose_weights_could_not_be_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full_disk(self: Path, content: bytes) -> int:
        if "safetensors" in self.name:
            raise OSError(28, "No space left on device", str(self))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_model(tmp_path / "m", model(), {})
    with pytest.raises(CheckpointError, match=r"no model\.json"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["adagrad", "adamw"])
def test_optimizer_comes_back(tmp_path: Path, name: str, layout: torch.memory_format) -> None:
    cls = {"adagrad": torch.optim.Adagrad, "adamw": partial(torch.optim.AdamW, fused=True)}[name]

    def convolution() -> torch.nn.Module:
        return torch.nn.Conv2d(4, 6, 3).to(memory_format=layout)  # type: ignore[call-overload, no-any-return]

    def step(net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        sum(p.square().sum() for p in net.parameters()).backward()
        optimizer.step()

    first = convolution()
    optimizer = cls(first.parameters(), lr=0.01)
    step(first, optimizer)
    save_optimizer(tmp_path / "o.safetensors", optimizer)
    second = convolution()
    second.load_state_dict(first.state_dict())
    restored = cls(second.parameters(), lr=0.01)
    load_optimizer(tmp_path / "o.safetensors", restored)
    step(first, optimizer)
    step(second, restored)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (torch.nn.Linear(3, 2), "made for more parameters than the 1 of this model"),
        (torch.nn.Linear(3, 4, bias=False), r"exp_avg of parameter 0 is \[4, 3\], the parameter \[2, 3\]"),
    ],
)
def test_the_optimizer_of_another_model_is_refused(tmp_path: Path, other: torch.nn.Module, message: str) -> None:
    optimizer = torch.optim.AdamW(other.parameters())
    sum(parameter.sum() for parameter in other.parameters()).backward()
    optimizer.step()
    save_optimizer(tmp_path / "o.safetensors", optimizer)
    mine = torch.optim.AdamW(torch.nn.Linear(3, 2, bias=False).parameters())
    with pytest.raises(CheckpointError, match=message):
        load_optimizer(tmp_path / "o.safetensors", mine)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    save_model(tmp_path, model(), {})
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match="no readable safetensors"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="no readable safetensors"):
        load_optimizer(tmp_path / "model.safetensors", torch.optim.AdamW(model().parameters()))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not of the format cubescout-model"),
        ({"format_version": 99}, "format version 99"),
        ({"architecture": "Transformer"}, "unknown architecture 'Transformer'"),
    ],
)
def test_other_formats_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    save_model(tmp_path, model(), {})
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, model(), {}, weights=make_model(ARGUMENTS | {"latent_dim": 5}, 0).state_dict())
    with pytest.raises(CheckpointError, match="do not fit"):
        load_model(tmp_path)


def test_a_directory_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=r"no model\.json; it holds notes.txt"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="empty or not there"):
        load_model(tmp_path / "missing")

"""The package's model, made at the smallest tier, and a survey that starts from it."""

import json
from pathlib import Path

import pytest

from benchmarks.anomaly.tiers import TIERS
from benchmarks.pretrained import PackagingError, main, package, sample_store
from jobs.models.opening import differing_windows
from modeling.network import pretrained
from modeling.network.checkpoint import CheckpointError, load_model, weights_digest
from modeling.network.pretrained import pretrained_folder, read_card
from modeling.training.config import TrainingJob
from modeling.training.ray_train import check_job
from modeling.training.start import publish

TINY = TIERS["tiny"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pretrained")


@pytest.fixture(scope="module")
def made(work: Path) -> Path:
    """The folder that would lie in the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "FOLDER", work / "package")
        main(["--tier", "tiny", "--work", str(work), "--workers", "1"])
    return work / "package"


@pytest.mark.slow
def test_the_card_says_what_the_model_is(made: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", made)
    assert sorted(path.name for path in made.iterdir()) == ["card.json", "model.json", "model.safetensors"]
    network, metadata = load_model(pretrained_folder())
    card = read_card()
    assert card["simulated"] is True
    assert card["num_galaxies"] == 11  # 12 observations, two of them of one galaxy
    assert "11 simulated galaxies" in card["description"]
    assert card["weights_sha256"] == weights_digest(network)
    assert card["lines"] == metadata["line_names"] == ["Hb-4862", "OIII-5008", "Ha-6564"]
    assert card["window_settings"]["prepare.windows.continuum"] == "sidebands"
    assert card["window_settings"]["prepare.windows.bin_factor"] == 3
    assert card["num_bytes"] == (made / "model.safetensors").stat().st_size < pretrained.MAX_BYTES
    assert "validation_nll" in card["metrics"]


@pytest.mark.slow
def test_a_training_can_start_from_it(made: Path, work: Path) -> None:
    store = sample_store(TINY, work, 1)
    start = publish(made, str(work), reference="pretrained")
    train = TINY.default.train.model_copy(update={"start_from": "pretrained", "num_workers": 0})
    check_job(TrainingJob(store=store.path, model=TINY.default.model, train=train, start=start))
    _, metadata = load_model(made)
    (differing,) = [text for text in differing_windows(metadata["window_settings"], store) if "sampling" in text]
    assert differing == "prepare.windows.sampling is None, the model was trained on conserve"


@pytest.mark.slow
def test_a_model_that_is_too_large_is_not_packaged(
    made: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "MAX_BYTES", 100)
    with pytest.raises(PackagingError, match="bytes, expected at most 100"):
        package(made, "tiny", TINY, sample_store(TINY, work, 1), tmp_path / "package")
    assert not (tmp_path / "package").exists()


@pytest.mark.slow
def test_a_model_of_the_benchmark_is_packaged_with_the_galaxies_that_it_saw(
    made: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "package")
    main(["--tier", "tiny", "--work", str(work), "--workers", "1", "--model", str(made), "--fold", "0"])
    assert read_card()["num_galaxies"] in (5, 6)  # those of the other fold
    with pytest.raises(SystemExit):
        main(["--tier", "tiny", "--fold", "0"])


def test_a_version_without_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="no pretrained model in this version"):
        read_card()
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "card.json").write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match=r"card.json: expected a mapping, found \[1\]"):
        read_card()


def test_a_model_in_the_package_is_small_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of this version, if it has one."""
    if not (pretrained.FOLDER / "model.json").is_file():
        pytest.skip("this version comes without a pretrained model")
    network, metadata = load_model(pretrained_folder())
    card = read_card()
    assert card["weights_sha256"] == weights_digest(network)
    assert card["lines"] == metadata["line_names"]
    assert (pretrained.FOLDER / "model.safetensors").stat().st_size <= pretrained.MAX_BYTES

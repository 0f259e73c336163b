import pytest
import torch

from modeling.scoring.config import ScoreConfig


@pytest.mark.parametrize(
    ("asked", "has_gpu", "expected"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda:1", False, "cuda:1")],
)
def test_scores_are_computed_on_a_gpu_if_there_is_one_and_nothing_else_is_asked_for(
    asked: str, has_gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert ScoreConfig(device=asked).torch_device == expected
    assert ScoreConfig().device == "auto"

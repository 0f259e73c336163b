import numpy as np
import pytest
import torch
from torch import Tensor

from modeling.network.error_modes import squared_distance, whitened


def spaxels(num: int = 4, samples: int = 7, modes: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    residual, variance, tested = (torch.rand(num, samples, dtype=torch.float64, generator=generator) for _ in range(3))
    shape = torch.randn(num, modes, samples, dtype=torch.float64, generator=generator)
    return residual - 0.5, variance + 0.1, shape, tested > 0.3


def covariances(variance: Tensor, modes: Tensor, tested: Tensor) -> list[np.ndarray]:
    """Of the tested samples of each spaxel."""
    full = torch.diag_embed(variance) + modes.mT @ modes
    return [row[kept][:, kept].numpy() for row, kept in zip(full, tested, strict=True)]


@pytest.mark.parametrize("modes", [0, 1, 3])
def test_distance_and_determinant_are_those_of_the_whole_covariance(modes: int) -> None:
    residual, variance, shapes, tested = spaxels(modes=modes)
    distance, log_determinant = squared_distance(residual, variance, shapes, tested)
    for i, covariance in enumerate(covariances(variance, shapes, tested)):
        vector = residual[i, tested[i]].numpy()
        assert distance[i].item() == pytest.approx(vector @ np.linalg.solve(covariance, vector))
        assert log_determinant[i].item() == pytest.approx(np.linalg.slogdet(covariance)[1])


@pytest.mark.parametrize("modes", [0, 1, 3])
def test_whitening_is_the_symmetric_inverse_root_of_the_covariance(modes: int) -> None:
    residual, variance, shapes, tested = spaxels(modes=modes)
    num, samples = residual.shape
    columns = torch.eye(samples, dtype=torch.float64).repeat(num, 1)
    rows = [values.repeat_interleave(samples, 0) for values in (variance, shapes, tested)]
    transform = whitened(columns, *rows).view(num, samples, samples)
    for i, covariance in enumerate(covariances(variance, shapes, tested)):
        kept = tested[i]
        matrix = transform[i][kept][:, kept].numpy()
        np.testing.assert_allclose(matrix.T @ covariance @ matrix, np.eye(len(matrix)), atol=1e-10)
        scaled = matrix * np.sqrt(variance[i, kept].numpy())[:, None]
        np.testing.assert_allclose(scaled, scaled.T, atol=1e-10)  # symmetric for standardised residuals
        assert (transform[i][:, ~kept] == 0).all()
    squares = whitened(residual, variance, shapes, tested).square().sum(dim=1)
    torch.testing.assert_close(squares, squared_distance(residual, variance, shapes, tested)[0])


def test_samples_that_are_not_tested_change_nothing_and_have_finite_gradients() -> None:
    residual, variance, shapes, tested = spaxels()
    tested[0] = False
    expected = squared_distance(residual, variance, shapes, tested), whitened(residual, variance, shapes, tested)
    assert expected[0][0][0] == expected[0][1][0] == 0
    residual, variance = torch.where(tested, residual, torch.nan), torch.where(tested, variance, 0.0)
    shapes = torch.where(tested[:, None], shapes, 1e9).requires_grad_()
    found = squared_distance(residual, variance, shapes, tested), whitened(residual, variance, shapes, tested)
    for one, other in zip((*expected[0], expected[1]), (*found[0], found[1]), strict=True):
        assert torch.equal(one, other)
    sum(values.sum() for values in found[0]).backward()  # type: ignore[union-attr]
    assert shapes.grad is not None
    assert torch.isfinite(shapes.grad).all()

"""Errors of a prediction that many samples of a spaxel share: a covariance of low rank beside independent variances.

Where a line is brighter, wider or faster than predicted, its samples and often other lines are wrong together. Counted
as independent, such an error looks highly significant. So the residuals of a spaxel have the covariance D + F F^T: D
holds the independent variances, and each column of F is the pattern of one standard normal number, a mode.

Shapes: N spaxels, F samples of a spaxel, of all its lines, M modes.
"""

import torch
from torch import Tensor

from modeling.network import error_modes_cpu


def squared_distance(
    residual_NF: Tensor, variance_NF: Tensor, modes_NMF: Tensor, tested_NF: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared Mahalanobis distance and logarithm of the determinant of the covariance of the tested samples, each [N].

    By the Woodbury identity and the matrix determinant lemma: only M x M matrices are factorised.

    Args:
        residual_NF: any value where not tested.
        variance_NF: above 0 where tested.
        modes_NMF: in the unit of the residuals.
        tested_NF: bool.
    """
    if error_modes_cpu.fits(residual_NF, variance_NF, modes_NMF):
        distance_N, determinant_N = error_modes_cpu.squared_distance(residual_NF, variance_NF, modes_NMF, tested_NF)
        return distance_N.clamp(min=0), determinant_N
    y_NF, g_NMF, log_variance_NF = _standardised(residual_NF, variance_NF, modes_NMF, tested_NF)
    # Without a check for errors, which would wait for a GPU: the matrix is 1 plus a square.
    factor_NMM = torch.linalg.cholesky_ex(_precision(g_NMF)).L
    z_NM1 = torch.linalg.solve_triangular(factor_NMM, g_NMF @ y_NF[:, :, None], upper=False)
    distance_N = y_NF.square().sum(dim=1) - z_NM1.square().sum(dim=(1, 2))
    determinant_N = 2 * factor_NMM.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    return distance_N.clamp(min=0), log_variance_NF.sum(dim=1) + determinant_N


def whitened(residual_NF: Tensor, variance_NF: Tensor, modes_NMF: Tensor, tested_NF: Tensor) -> Tensor:
    """Tested residuals multiplied by the symmetric inverse root of their covariance, [N, F]; 0 where not tested.

    Of all independent residuals of unit variance, these are closest to the standardised ones (Kessy, Lewin & Strimmer
    2018, doi:10.1080/00031305.2016.1277159); their squares sum to the squared Mahalanobis distance.
    Arguments as of `squared_distance`.
    """
    y_NF, g_NMF, _ = _standardised(residual_NF, variance_NF, modes_NMF, tested_NF)
    value_NM, vector_NMM = torch.linalg.eigh(_precision(g_NMF))
    # (1 + v)^(-1/2) along each eigenvector of G G^T with eigenvalue v = value - 1, and 1 elsewhere.
    root_NM = value_NM.clamp(min=1).sqrt()
    shrink_NM = 1 / (root_NM * (1 + root_NM))
    along_NM1 = vector_NMM.mT @ (g_NMF @ y_NF[:, :, None])
    return y_NF - (g_NMF.mT @ (vector_NMM @ (shrink_NM[:, :, None] * along_NM1)))[:, :, 0]


def _standardised(
    residual_NF: Tensor, variance_NF: Tensor, modes_NMF: Tensor, tested_NF: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals and modes over the roots of the variances, and logarithms of the variances; 0 where not tested."""
    variance_NF = torch.where(tested_NF, variance_NF, 1.0)
    inverse_NF = torch.where(tested_NF, variance_NF.rsqrt(), 0.0)
    y_NF = torch.where(tested_NF, residual_NF, 0.0) * inverse_NF
    return y_NF, modes_NMF * inverse_NF[:, None], variance_NF.log()


def _precision(g_NMF: Tensor) -> Tensor:
    """Precision of the modes given the residuals, I + G G^T, [N, M, M]."""
    return g_NMF @ g_NMF.mT + torch.eye(g_NMF.shape[1], device=g_NMF.device, dtype=g_NMF.dtype)

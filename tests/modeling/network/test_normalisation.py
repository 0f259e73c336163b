import torch

from modeling.network.normalisation import asinh, variance_of


def test_a_variance_is_the_inverse_and_1_where_there_is_none() -> None:
    assert variance_of(torch.tensor([4.0, 0.0, 0.5])).tolist() == [0.25, 1.0, 2.0]


def test_asinh_is_that_of_pytorch_and_finite_for_any_flux() -> None:
    size = torch.logspace(-30, 18, 500)
    x = torch.cat([-size, torch.zeros(1), size])
    torch.testing.assert_close(asinh(x), torch.asinh(x), rtol=1e-6, atol=0)
    assert asinh(torch.tensor([-1e38, 1e38])).isfinite().all()

import torch

from modeling.network.normalisation import variance_of


def test_a_variance_is_the_inverse_and_1_where_there_is_none() -> None:
    assert variance_of(torch.tensor([4.0, 0.0, 0.5])).tolist() == [0.25, 1.0, 2.0]

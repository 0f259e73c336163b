import pytest
import torch

from modeling.network.autoencoder import make_model
from modeling.training.model_card import measure_cost, model_card

SMALL = {"num_lines": 3, "num_samples": 4, "size": 16, "latent_dim": 6}


def test_cost_is_that_of_the_network() -> None:
    model = make_model(SMALL, seed=0)
    state = torch.get_rng_state()
    cost = measure_cost(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert cost.num_parameters == sum(p.numel() for p in model.parameters())
    double = measure_cost(make_model(SMALL | {"num_lines": 6}, seed=0))
    # Convolutions of input and decoder double, those of the state go from 2 to 5: the first step has no state.
    assert 2.0 < double.forward_gflop / cost.forward_gflop < 2.5
    assert double.saved_mib > cost.saved_mib


def test_forward_operations_of_a_layer_counted_by_hand() -> None:
    model = make_model(SMALL, seed=0)
    convolution = model.encoder.blocks.second  # 16 to 16 channels, 3 x 3, on three images of 16 x 16
    by_hand = 3 * 16 * 16 * 2 * 16 * 16 * 9
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        convolution(torch.zeros(3, 16, 16, 16))
    assert counter.get_total_flops() == by_hand
    assert measure_cost(model).forward_gflop > 2 * by_hand / 1e9


@pytest.mark.parametrize("variational", [False, True])
def test_the_card_says_what_the_model_is(variational: bool) -> None:
    model = make_model(SMALL | {"variational": variational}, seed=0)
    metrics = {"validation_loss": 0.125, "validation_mae/Ha-6564": 0.5}
    card = model_card(model, measure_cost(model), metrics=metrics, training={"epochs": 3}, store="abc")
    for part in (
        "3 lines x 4 samples x 16 x 16",
        "`abc`",
        "| validation_loss | 0.125 |",
        "| Ha-6564 | 0.5 |",
        "| epochs | 3 |",
    ):
        assert part in card
    assert ("variational autoencoder" in card) == variational

from typing import Any

import pytest
import torch
from torch import nn

from modeling.network.config import ModelConfig
from modeling.network.make import make_network
from modeling.network.masked_network import MaskedPredictor
from modeling.network.normalisation import WindowNetwork
from modeling.network.transfer import freeze_all_but_last, take_weights

NAMES = ["Hb-4862", "OIII-5008", "Ha-6564", "NII-6585"]


def masked(names: list[str] = NAMES, size: int = 16, seed: int = 0, **values: Any) -> MaskedPredictor:
    sizes = {"latent_dim": 6, "context_channels": 8, "lstm_channels": 0, "error_modes": 2} | values
    made = make_network(ModelConfig(kind="masked", **sizes), (len(names), 5, size), names, seed=seed)
    assert isinstance(made, MaskedPredictor)
    nn.init.normal_(made.place_CYX)  # zero in a new network
    return made.eval()


def autoencoder(size: int = 16, seed: int = 0, **values: Any) -> WindowNetwork:
    sizes = dict.fromkeys(("latent_dim", "step_channels", "lstm_channels", "decoder_channels", "spaxel_code"), 4)
    return make_network(ModelConfig(**sizes | values), (4, 5, size), NAMES, seed=seed)


@pytest.mark.parametrize("make", [masked, lambda seed: masked(seed=seed, lstm_channels=3), autoencoder])
def test_a_network_of_the_same_shape_takes_all_weights(make: Any) -> None:
    model, start = make(seed=1), make(seed=0)
    take_weights(model, start, NAMES, NAMES)
    for (name, taken), given in zip(model.state_dict().items(), start.state_dict().values(), strict=True):
        assert torch.equal(taken, given), name
    freeze_all_but_last(model)
    assert all(parameter.requires_grad for parameter in start.parameters())


@pytest.mark.parametrize("names", [["Ha-6564", "Hb-4862", "NII-6585"], ["NII-6585", "OIII-5008"]])
def test_lines_that_are_left_out_are_as_if_they_were_masked(names: list[str]) -> None:
    model, start = masked(names, seed=1), masked()
    take_weights(model, start, names, NAMES)
    lines = [NAMES.index(name) for name in names]
    torch.manual_seed(1)
    flux, good = torch.randn(2, 4, 5, 16, 16) + 2, torch.rand(2, 4, 5, 16, 16) > 0.1
    ivar = 10 * torch.rand_like(flux)
    there = torch.zeros(4, dtype=torch.bool)
    there[lines] = True
    expected = start.predict(flux, good & there[:, None, None, None], ivar)
    found = model.predict(flux[:, lines], good[:, lines], ivar[:, lines])
    torch.testing.assert_close(found.mean, expected.mean[:, lines])
    torch.testing.assert_close(found.variance, expected.variance[:, lines])
    of_lines = expected.modes.unflatten(4, (4, 5))[..., lines, :].flatten(4)
    torch.testing.assert_close(found.modes, of_lines)
    torch.testing.assert_close(found.latent, expected.latent)
    torch.testing.assert_close(model.coarse_means(found.latent), start.coarse_means(expected.latent)[:, lines])
    assert not torch.allclose(expected.mean, start.predict(flux, good, ivar).mean)


@pytest.mark.parametrize("names", [NAMES, NAMES[:2]])
def test_a_network_of_an_earlier_version_starts_without_looking_at_the_noise(names: list[str]) -> None:
    old = MaskedPredictor(**(masked().arguments | {"sees_noise": False}))
    model = masked(names, seed=1)
    take_weights(model, old, names, NAMES)
    flux, good = torch.randn(1, len(names), 5, 16, 16) + 2, torch.ones(1, len(names), 5, 16, 16, dtype=torch.bool)
    found = [model.predict(flux, good, torch.full_like(flux, ivar)).mean for ivar in (1.0, 100.0)]
    assert torch.equal(*found)
    if names == NAMES:
        torch.testing.assert_close(found[0], old.eval().predict(flux, good, torch.ones_like(flux)).mean)


def test_the_place_in_a_larger_window_is_interpolated_about_its_middle() -> None:
    model, start = masked(size=32, seed=1), masked()
    with torch.no_grad():
        offset_Y = torch.arange(16) - 7.5
        start.place_CYX.copy_((offset_Y[:, None] + 0 * offset_Y).expand_as(start.place_CYX))
    take_weights(model, start, NAMES, NAMES)
    inner = model.place_CYX[0, 1:-1, 0]  # beyond the outermost centres the place stays constant
    torch.testing.assert_close(inner, (torch.arange(1, 31) - 15.5) / 2)
    torch.testing.assert_close(model.first.weight, start.first.weight)
    assert model(torch.ones(1, 4, 5, 32, 32), torch.ones(1, 4, 5, 32, 32, dtype=torch.bool)).mean.isfinite().all()


@pytest.mark.parametrize(
    ("model", "start", "names", "message"),
    [
        (masked(latent_dim=8), masked(), NAMES, r"^model\.latent_dim: it has 6, here it is 8"),
        (masked(latent_dim=8, normalise="none"), masked(), NAMES, r"; model\.normalise: it has asinh, here it is none"),
        (masked(), autoencoder(), NAMES, r"^model\.kind: it is ae, here it is masked$"),
        (autoencoder(kind="vae", spaxel_code=4), autoencoder(), NAMES, r"^model\.kind: it is ae, here it is vae$"),
        (autoencoder(size=32), autoencoder(), NAMES, r"^prepare\.windows\.size: it has 16, here it is 32"),
        (
            masked(["Ha-6564", "SII-6718"]),
            masked(),
            ["Ha-6564", "SII-6718"],
            r"^prepare\.windows\.lines: it has none of SII-6718 among Hb-4862, OIII",
        ),
        (masked(NAMES[::-1], lstm_channels=3), masked(lstm_channels=3), NAMES[::-1], "a recurrence over the lines can"),
        (autoencoder(), autoencoder(), NAMES[::-1], "an autoencoder can only be taken over for the same lines"),
    ],
)
def test_what_does_not_fit_is_named(model: WindowNetwork, start: WindowNetwork, names: list[str], message: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        take_weights(model, start, names, NAMES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "trained"),
    [
        (masked(lstm_channels=3), {"to_samples", "to_modes", "lines.to_samples", "to_coarse"}),
        (autoencoder(), {"decoder.last", "to_gain", "spaxels.to_samples", "spaxels.linear_samples"}),
        (autoencoder(decoder="convlstm", spaxel_code=0, shortcut=False), {"decoder.upsampling.last"}),
    ],
)
def test_all_but_the_last_layers_can_be_frozen(model: WindowNetwork, trained: set[str]) -> None:
    freeze_all_but_last(model)
    found = {name.rpartition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found == trained

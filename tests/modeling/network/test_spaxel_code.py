from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modeling.network.autoencoder import ConvLSTMAutoencoder, make_model
from modeling.network.spaxel_code import SpaxelCoder, local_amplitude
from modeling.training.config import TrainConfig
from modeling.training.objective import Objective

LINES, SAMPLES, SIZE, CODE = 3, 4, 8, 2


def coder(code: int = CODE) -> SpaxelCoder:
    torch.manual_seed(0)
    return SpaxelCoder(num_lines=LINES, num_samples=SAMPLES, code=code)


def network(**arguments: Any) -> ConvLSTMAutoencoder:
    shape = {"num_lines": LINES, "num_samples": SAMPLES, "size": SIZE, "latent_dim": 4}
    small = {"step_channels": 2, "lstm_channels": 2, "decoder_channels": 2, "spaxel_code": CODE}
    return make_model(shape | small | arguments, seed=0)


def galaxies(num: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Spectra of two kinds that are mixed differently in each spaxel; flux, ivar, good."""
    generator = torch.Generator().manual_seed(1)
    kinds = torch.rand(2, LINES, SAMPLES, generator=generator)
    amounts = torch.rand(num, 2, SIZE, SIZE, generator=generator)
    flux = torch.einsum("kls,bkyx->blsyx", kinds, amounts) + 0.01 * torch.randn(
        num, LINES, SAMPLES, SIZE, SIZE, generator=generator
    )
    return flux, torch.full_like(flux, 1e4), torch.rand(flux.shape, generator=generator) > 0.02


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_local_amplitude_equals_a_loop_over_neighbourhoods(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    good = rng.random((2, 2, 3, 4, 5)) < share
    flux = np.where(good, rng.normal(size=good.shape), 0)
    found = local_amplitude(torch.from_numpy(flux), torch.from_numpy(good)).numpy()
    for n, y, x in np.ndindex(found.shape):
        near = (n, slice(None), slice(None), slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
        values = flux[near][good[near]]
        assert found[n, y, x] == pytest.approx(np.sqrt(np.mean(values**2)) if values.size else 1.0)


def start(spectra: Tensor, variance: Tensor, good: Tensor | None = None) -> SpaxelCoder:
    """A coder that started from spectra, without what is not linear in it."""
    found = coder()
    found.start_from(spectra, torch.ones_like(spectra, dtype=torch.bool) if good is None else good, variance)
    with torch.no_grad():
        found.to_code.weight.zero_()
        found.to_samples.weight.zero_()
    return found


def test_a_coder_starts_from_the_principal_components() -> None:
    spectra = torch.randn(3, LINES, SAMPLES, 5, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    good = torch.ones_like(spectra, dtype=torch.bool)
    with torch.no_grad():
        found = start(spectra, torch.zeros_like(spectra))(spectra, good)
    rows = spectra.flatten(1, 2).movedim(1, -1).reshape(-1, LINES * SAMPLES).double().numpy()
    centred = rows - rows.mean(0)
    components = np.linalg.svd(centred, full_matrices=False)[2][:CODE]
    expected = rows.mean(0) + centred @ components.T @ components
    np.testing.assert_allclose(found.flatten(1, 2).movedim(1, -1).reshape(rows.shape), expected, atol=1e-5)


def test_a_code_may_be_longer_than_a_spectrum() -> None:
    torch.manual_seed(0)
    spectra, found = torch.randn(2, LINES, 1, 5, 5), SpaxelCoder(num_lines=LINES, num_samples=1, code=8)
    good = torch.ones_like(spectra, dtype=torch.bool)
    found.start_from(spectra, good, torch.zeros_like(spectra))
    with torch.no_grad():
        found.to_code.weight.zero_()
        found.to_samples.weight.zero_()
        torch.testing.assert_close(found(spectra, good), spectra, rtol=0, atol=1e-4)


def test_what_is_not_linear_adds_little_at_the_start() -> None:
    flux, _, _ = galaxies()
    good = torch.ones_like(flux, dtype=torch.bool)
    fresh, started = coder(), coder()
    started.start_from(flux, good, torch.zeros_like(flux))
    with torch.no_grad():
        errors = [(each(flux, good) - flux).square().mean().sqrt() for each in (fresh, started)]
    assert errors[1] < 0.25 * errors[0]


def test_noisy_and_half_masked_spectra_do_not_lead_the_start() -> None:
    clean, _, _ = galaxies()
    junk = 30 * torch.randn(2, *clean.shape[1:], generator=torch.Generator().manual_seed(2))
    variance = torch.cat([torch.zeros_like(clean), torch.full_like(junk, 1e9)])
    spectra = torch.cat([clean, junk])
    good = torch.ones_like(spectra, dtype=torch.bool)
    with torch.no_grad():
        by_noise = start(spectra, variance)(clean, good[: len(clean)])
        good[len(clean) :, 0, 0] = False
        by_mask = start(spectra, torch.zeros_like(spectra), good)(clean, good[: len(clean)])
    for found in (by_noise, by_mask):
        assert (found - clean).square().mean().sqrt() < 0.02


def test_too_few_spectra_leave_a_coder_as_it_is() -> None:
    spectra = torch.randn(1, LINES, SAMPLES, 1, CODE)
    found, before = coder(), coder().state_dict()
    found.start_from(spectra, torch.ones_like(spectra, dtype=torch.bool), torch.ones_like(spectra))
    for name, values in found.state_dict().items():
        torch.testing.assert_close(values, before[name], rtol=0, atol=0)


def test_each_spaxel_is_coded_on_its_own() -> None:
    spectra = torch.randn(2, LINES, SAMPLES, 5, 5)
    good, found = torch.ones_like(spectra, dtype=torch.bool), coder()
    changed = spectra.clone()
    changed[:, :, :, 2, 3] += 5
    with torch.no_grad():
        difference = (found(changed, good) - found(spectra, good)).abs().amax(dim=(0, 1, 2))
    assert difference[2, 3] > 1e-3
    difference[2, 3] = 0
    assert difference.max() < 1e-6


@pytest.mark.parametrize("normalise", ["scale", "asinh"])
def test_reconstructions_scale_with_flux(normalise: str) -> None:
    model, (flux, _, good) = network(normalise=normalise).eval(), galaxies()
    with torch.no_grad():
        (target, scale), (target_3, scale_3) = (model.normalise(factor * flux, good) for factor in (1, 3))
        once = model.denormalise(model.autoencode(target, good).reconstruction, scale)
        thrice = model.denormalise(model.autoencode(target_3, good).reconstruction, scale_3)
    torch.testing.assert_close(thrice, 3 * once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("held", [float("nan"), float("inf"), -1e30])
def test_masked_values_never_leak(held: float) -> None:
    model, (flux, ivar, good) = network(), galaxies()
    objective = Objective(model, TrainConfig())
    losses = []
    for value in (0.0, held):
        objective.zero_grad()
        loss = objective(torch.where(good, flux, value), ivar * good, good)["loss"].sum()
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        losses.append([loss.detach(), *(gradient.clone() for gradient in gradients)])
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
    assert all(values.isfinite().all() for values in losses[1])


def test_masked_samples_have_no_gradient_and_the_others_have() -> None:
    model, (flux, ivar, good) = network(), galaxies()
    flux = flux.requires_grad_(True)
    Objective(model, TrainConfig())(flux, ivar * good, good)["loss"].sum().backward()
    assert flux.grad is not None
    assert (flux.grad[~good] == 0).all()
    assert (flux.grad[good] != 0).float().mean() > 0.9


def test_a_model_that_starts_from_galaxies_has_less_loss_at_once() -> None:
    batch = galaxies()
    losses = []
    for begin in (False, True):
        objective = Objective(network(), TrainConfig()).eval()
        if begin:
            objective.start_from(*batch)
        with torch.no_grad():
            losses.append(objective(*batch)["loss"].mean())
    assert losses[1] < 0.7 * losses[0]


def test_a_model_without_codes_has_nothing_to_start() -> None:
    objective = Objective(network(spaxel_code=0), TrainConfig())
    before = {name: values.clone() for name, values in objective.state_dict().items()}
    objective.start_from(*galaxies())
    for name, values in objective.state_dict().items():
        torch.testing.assert_close(values, before[name], rtol=0, atol=0)

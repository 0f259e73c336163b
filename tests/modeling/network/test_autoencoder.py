from typing import Any

import pytest
import torch
from torch import Tensor

from modeling.network.autoencoder import ConvLSTMAutoencoder, make_model
from modeling.network.masked import masked_mae

SHAPE = {"num_lines": 3, "num_samples": 4, "size": 16}
SMALL = {"latent_dim": 6, "step_channels": 4, "lstm_channels": 4, "decoder_channels": 4}


def small(**arguments: Any) -> ConvLSTMAutoencoder:
    return make_model(SHAPE | SMALL | arguments, seed=0)


def windows(num_batch: int = 2, **shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    s = SHAPE | shape
    flux = torch.randn(num_batch, s["num_lines"], s["num_samples"], s["size"], s["size"], generator=generator) + 1
    return flux, torch.rand(flux.shape, generator=generator) > 0.2


@pytest.mark.parametrize("kind", [False, True], ids=["ae", "vae"])
@pytest.mark.parametrize("steps", ["line", "sample"])
@pytest.mark.parametrize("shape", [{}, {"num_samples": 1}, {"size": 8}, {"size": 24}, {"num_lines": 19}])
def test_shapes_and_gradients(kind: bool, steps: str, shape: dict[str, int]) -> None:
    model = small(variational=kind, steps=steps, **shape)
    flux, good = windows(**shape)
    out = model(flux, good)
    assert out.reconstruction.shape == flux.shape
    assert out.latent.shape == (2, 6)
    assert (out.mean is not None) == (out.log_variance is not None) == kind
    loss = out.reconstruction.square().mean() + (out.log_variance.square().mean() if kind else 0)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("decoder", ["own", "embedding", "convlstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("own_step_weights", [False, True])
def test_every_choice_of_parts_has_shapes_and_gradients(
    decoder: str, bidirectional: bool, own_step_weights: bool
) -> None:
    model = small(decoder=decoder, bidirectional=bidirectional, own_step_weights=own_step_weights)
    flux, good = windows()
    out = model(flux, good)
    assert out.reconstruction.shape == flux.shape
    out.reconstruction.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradient_checkpoints_change_no_number(bidirectional: bool) -> None:
    flux, good = windows()
    results = []
    for steps in (None, 2):
        model = small(bidirectional=bidirectional, gradient_checkpoint_steps=steps)
        out = model(flux, good).reconstruction
        out.square().mean().backward()
        results.append([out, *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_step_has_weights_of_its_own_where_asked_for() -> None:
    image = windows()[0][:, 0, 0].expand(3, 1, -1, -1, -1).transpose(1, 2)
    for own in (False, True):
        blocks = small(own_step_weights=own, num_samples=1, mask_input=False).encoder.blocks
        if not own:
            torch.nn.init.zeros_(blocks.offset_TC)
        features = blocks(image)
        assert features.shape == (3, 2, 4, 16, 16)
        assert torch.allclose(features[0], features[1]) != own


@pytest.mark.parametrize("decoder", ["own", "embedding", "convlstm"])
@pytest.mark.parametrize("steps", ["line", "sample"])
def test_decoded_frames_differ_over_steps(steps: str, decoder: str) -> None:
    model = small(steps=steps, decoder=decoder, shortcut=False)
    frames = model.decode(torch.ones(1, 6)).detach()[0].flatten(0, 1).flatten(1)
    correlation = torch.corrcoef(frames)
    others = correlation[~torch.eye(len(frames), dtype=torch.bool)]
    assert others.abs().max() < 0.99


@pytest.mark.parametrize("normalise", ["none", "scale", "asinh"])
@pytest.mark.parametrize("mask_input", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30, -7.0])
def test_values_of_bad_samples_change_nothing(normalise: str, mask_input: bool, bad: float) -> None:
    model = small(normalise=normalise, mask_input=mask_input)
    flux, good = windows()
    expected = model(torch.where(good, flux, 0.0), good)
    spoilt = torch.where(good, flux, bad).requires_grad_()
    out = model(spoilt, good)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    target, _ = model.normalise(spoilt, good)
    masked_mae(out.reconstruction, target, good).sum().backward()
    assert (spoilt.grad[~good] == 0).all()
    assert (spoilt.grad[good] != 0).any()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_mask_itself_is_seen() -> None:
    model = small()
    flux, good = windows()
    flux = torch.where(good, flux, 0.0)
    assert not torch.allclose(model(flux, good).latent, model(flux, torch.ones_like(good)).latent)


@pytest.mark.parametrize("normalise", ["none", "scale", "asinh"])
def test_normalisation_inverts(normalise: str) -> None:
    model = small(normalise=normalise)
    flux, good = windows()
    normalised, scale = model.normalise(flux * 100, good)
    torch.testing.assert_close(model.denormalise(normalised, scale)[good], flux[good] * 100, rtol=1e-5, atol=1e-4)
    assert (normalised[~good] == 0).all()


@pytest.mark.parametrize("normalise", ["scale", "asinh"])
def test_normalised_galaxies_do_not_depend_on_brightness(normalise: str) -> None:
    model = small(normalise=normalise)
    flux, good = windows()
    faint, faint_scale = model.normalise(flux, good)
    bright, bright_scale = model.normalise(flux * 1000, good)
    torch.testing.assert_close(faint, bright, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bright_scale, 1000 * faint_scale)


def test_a_galaxy_without_good_samples_stays_finite() -> None:
    flux, good = windows()
    good[1] = False
    flux[1] = torch.nan
    model = small()
    out = model(flux, good)
    assert torch.isfinite(out.reconstruction).all()
    assert torch.isfinite(out.latent).all()
    assert model.normalise(flux, good)[1][1] == 1


def test_a_few_hot_spaxels_do_not_set_the_scale() -> None:
    model = small()
    flux, good = windows()
    _, calm = model.normalise(flux, good)
    flux[..., 3, 3:6] = 1e6
    _, hot = model.normalise(flux, torch.ones_like(good) & good)
    torch.testing.assert_close(hot, calm, rtol=0.1, atol=0)


def test_a_small_bundle_has_the_scale_of_its_covered_spaxels() -> None:
    flux, good = torch.full((1, 3, 4, 16, 16), 5.0), torch.zeros(1, 3, 4, 16, 16, dtype=torch.bool)
    good[..., 6:9, 6:9] = True  # 4% of the window
    assert small().normalise(flux, good)[1].item() == pytest.approx(5)


def test_variational_draws_in_training_and_takes_the_mean_otherwise() -> None:
    model = small(variational=True)
    flux, good = windows()
    drawn = [model(flux, good).reconstruction for _ in range(2)]
    assert not torch.equal(*drawn)
    model.eval()
    out = model(flux, good)
    torch.testing.assert_close(out.reconstruction, model.decode(out.mean), rtol=0, atol=0)
    assert out.latent is out.mean


def test_seed_decides_the_weights_and_leaves_the_global_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b = small(), small()
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_wrong_arguments_are_named_together() -> None:
    with pytest.raises(ValueError, match=r"size is 20.*multiple of 8.*steps is 'spaxel'"):
        small(size=20, steps="spaxel")

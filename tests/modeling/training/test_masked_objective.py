import math

import pytest
import torch
from torch import Tensor

from modeling.network.config import ModelConfig
from modeling.network.hiding import draw_hidden, group_of_lines, hidden_lines, margin, turned
from modeling.network.make import make_network
from modeling.network.masked_network import Pass
from modeling.training import masked_objective
from modeling.training.config import TrainConfig, TrainingJob
from modeling.training.losses import STUDENT_DOF
from modeling.training.masked_objective import LATENT_WEIGHT, MaskedObjective, make_objective

NAMES = ["Hb-4862", "OIII-5008", "Ha-6564"]
SHAPE = (3, 4, 8)


def objective(loss: str = "student-t", **values: object) -> MaskedObjective:
    config = ModelConfig.model_validate(
        {"kind": "masked", "latent_dim": 5, "context_channels": 8, "lstm_channels": 2, "hidden_side": 4} | values
    )
    made = make_objective(make_network(config, SHAPE, NAMES, seed=0), TrainConfig(loss=loss))  # type: ignore[arg-type]
    assert isinstance(made, MaskedObjective)
    return made


def batch(num: int = 3, sigma: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    good = torch.rand(num, 3, 4, 8, 8) > 0.2
    flux = torch.where(good, torch.randn(good.shape) + 2, torch.nan)
    return flux, torch.where(good, sigma**-2, 0.0), good


def losses(made: MaskedObjective, *rows: Tensor, step_seed: int = 0) -> dict[str, Tensor]:
    found: dict[str, Tensor] = made(*made.prepared(*rows, step_seed=step_seed, device=rows[0].device))
    return found


def test_loss_is_the_likelihood_of_hidden_samples_under_noise_and_predicted_variance() -> None:
    made, (flux, ivar, good) = objective(normalise="none"), batch(1)
    network = made.model
    found = losses(made, flux, ivar, good, step_seed=7)
    digest = int(torch.where(good, flux, 0.0)[0, :, 2].contiguous().view(torch.int32).sum(dtype=torch.int64))
    generator = torch.Generator().manual_seed(hash((7, digest)) % 2**63)
    view = int(torch.randint(8, (), generator=generator))
    group = torch.from_numpy(draw_hidden(len(network.groups), 8, 4, generator))[None]
    hidden = hidden_lines(group_of_lines(network.groups, 3), len(network.groups), group, margin(4))[:, :, None]
    flux, good = (turned(values, view) for values in (torch.where(good, flux, 0.0), good))
    ivar = turned(ivar, view)
    prediction = network.predict(flux, good & ~hidden, ivar)
    chosen = good & hidden
    variance, residual = (prediction.variance + 0.01)[chosen], (prediction.mean - flux)[chosen]
    each = 0.5 * (STUDENT_DOF + 1) * torch.log1p(residual**2 / (STUDENT_DOF * variance)) + 0.5 * (variance / 0.01).log()
    constant = math.lgamma(2) - math.lgamma(2.5) + 0.5 * math.log(2)  # of Student's t, beside ln(2 pi)/2
    assert found["nll"].item() == pytest.approx(each.mean().item() + constant, rel=1e-4)
    assert found["loss"].item() == pytest.approx(found["nll"].item() + LATENT_WEIGHT * found["latent"].item())


def test_draws_depend_on_step_and_galaxy_and_not_on_the_batch() -> None:
    made, rows = objective(), batch()
    together = losses(made, *rows, step_seed=1)["loss"]
    each = [losses(made, *(values[i : i + 1] for values in rows), step_seed=1)["loss"] for i in (2, 0, 1)]
    alone = torch.cat(each)
    torch.testing.assert_close(alone, together[[2, 0, 1]], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(losses(made, *rows, step_seed=2)["loss"], together)


def test_galaxies_of_a_step_have_draws_of_their_own() -> None:
    made, (flux, ivar, good) = objective(), batch(12)
    *_, hidden = made.prepared(flux, ivar, good, step_seed=3, device=flux.device)
    assert len(hidden.flatten(1).unique(dim=0)) > 8
    # Bad samples do not matter.
    *_, again = made.prepared(flux.where(good, -1.0), ivar, good, step_seed=3, device=flux.device)
    assert torch.equal(hidden, again)


@pytest.mark.parametrize("error_modes", [0, 2])
def test_bad_samples_change_neither_loss_nor_gradient(error_modes: int) -> None:
    made, (flux, ivar, good) = objective(error_modes=error_modes), batch()
    gradients = []
    for value in (torch.nan, 1e9):
        made.zero_grad()
        rows = torch.where(good, flux, value), torch.where(good, ivar, value), good
        losses(made, *rows)["loss"].mean().backward()
        gradients.append([p.grad.clone() for p in made.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(made.parameters()))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
        assert torch.isfinite(one).all()


@pytest.mark.parametrize("error_modes", [0, 2])
def test_spaxels_without_hidden_samples_do_not_count(error_modes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU leaves them out, a GPU does not."""
    made, (flux, ivar, good) = objective(error_modes=error_modes, normalise="none"), batch(6)
    good[:2, ..., 3:, :] = False
    found = []
    for gpu in (False, True):
        if gpu:
            monkeypatch.setattr(masked_objective, "_with_tests", lambda _: None)
        made.zero_grad()
        measured = losses(made, flux, ivar, good)
        measured["loss"].mean().backward()
        gradients = [p.grad for p in made.parameters() if p.grad is not None]
        found.append([*measured.values(), *made.evaluate(flux, ivar, good).values(), *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["student-t", "gaussian"])
def test_errors_that_lines_share_are_learned(loss: str) -> None:
    """All lines of a spaxel have the same random brightness, which nothing else tells."""
    torch.manual_seed(0)
    square = torch.zeros(1, 3, 8, 8, dtype=torch.bool)
    square[..., 2:6, 2:6] = True

    def spaxels() -> tuple[Tensor, Tensor, Tensor]:
        flux = torch.randn(16, 1, 1, 8, 8) + 0.1 * torch.randn(16, *SHAPE[:2], 8, 8)
        return flux, torch.full_like(flux, 0.1**-2), torch.ones_like(flux, dtype=torch.bool)

    scatter = []
    for error_modes in (0, 1):
        made = objective(loss, normalise="none", error_modes=error_modes, lstm_channels=0)
        optimizer = torch.optim.AdamW(made.parameters(), lr=2e-2)
        for _ in range(60):
            optimizer.zero_grad()
            made(*spaxels(), square.expand(16, -1, -1, -1))["loss"].mean().backward()
            optimizer.step()
        part = Pass(square[:, :, None], square[:, :, None])
        sigma = made.model.predict_hidden([part], *spaxels()).residual_sigma[..., 2:6, 2:6]
        scatter.append(sigma.square().sum(dim=(1, 2)).std().item())
    # The squares of 12 independent residuals of unit variance sum to 12 +- 5, those of equal ones to 12 +- 17.
    assert scatter[1] < 8 < 12 < scatter[0]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["student-t", "gaussian"])
def test_training_learns_what_other_lines_and_spaxels_tell(loss: str) -> None:
    """Discs whose lines have fixed ratios: predictable but for the noise."""
    torch.manual_seed(0)
    made = objective(loss)
    yy, xx = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    disc = torch.exp(-((yy - 3.5) ** 2 + (xx - 3.5) ** 2) / (2 * (1 + 2 * torch.rand(24)[:, None, None]) ** 2))
    flux = (torch.tensor([1.0, 0.5, 3.0])[:, None, None, None] * disc[:, None, None]).expand(24, 3, 4, 8, 8)
    flux = flux + 0.02 * torch.randn(flux.shape)
    good = torch.ones_like(flux, dtype=torch.bool)
    rows = flux, torch.full_like(flux, 0.02**-2), good
    before = made.evaluate(*rows)
    optimizer = torch.optim.AdamW(made.parameters(), lr=5e-3)
    for step in range(100):
        optimizer.zero_grad()
        losses(made, *rows, step_seed=step)["loss"].mean().backward()
        optimizer.step()
    after = made.evaluate(*rows)
    for name in ("nll", "latent", "mae"):
        assert after[name].mean() < 0.7 * before[name].mean(), name


def test_measures_have_meaning_and_no_value_where_nothing_is_good() -> None:
    made, (flux, ivar, good) = objective(normalise="none"), batch()
    made.eval()
    good[0, 1] = False
    good[1] = False
    measured = made.evaluate(flux, ivar, good)
    assert {name: values[0].numel() for name, values in measured.items()} == made.metric_sizes()
    assert measured["mae"].isnan().tolist() == [[False, True, False], [True, True, True], [False, False, False]]
    for name in ("loss", "nll", "chi2", "latent"):
        assert measured[name].isnan().tolist() == [False, True, False]
    line = made.model.predict_hidden(
        made.model.patch_passes(), torch.where(good, flux, 0), torch.where(good, ivar, 1.0), good
    )
    residual = (line.mean - flux)[2, 1][good[2, 1]]
    assert measured["mae"][2, 1].item() == pytest.approx(residual.abs().mean().item(), rel=1e-4)
    again = made.evaluate(flux, ivar, good)
    assert torch.equal(again["nll"].nan_to_num(), measured["nll"].nan_to_num())


def test_nll_does_not_depend_on_the_unit_of_the_flux() -> None:
    made, (flux, ivar, good) = objective(), batch()
    one, other = made.evaluate(flux, ivar, good), made.evaluate(100 * flux, ivar / 1e4, good)
    torch.testing.assert_close(one["nll"], other["nll"], rtol=1e-3, atol=1e-3)
    assert not math.isnan(one["nll"].sum().item())


def test_a_masked_network_needs_a_likelihood() -> None:
    with pytest.raises(ValueError, match=r"train\.loss: mae; model\.kind masked predicts a variance too"):
        TrainingJob(store="w.zarr", model=ModelConfig(kind="masked"), train=TrainConfig(loss="mae"))


def test_identity_ignores_keys_that_the_kind_does_not_take() -> None:
    def identity(**values: object) -> str:
        model = ModelConfig.model_validate(values)
        return TrainingJob(store="w", model=model, train=TrainConfig(loss="student-t")).identity("s")

    assert identity(kind="masked", spaxel_code=3) == identity(kind="masked")
    assert identity(kind="masked", context_channels=8) != identity(kind="masked")
    assert identity(context_channels=8) == identity()
    assert identity(spaxel_code=3) != identity()

"""Draws the plots of docs/simulation.md: the simulated survey beside real data.

python -m benchmarks.simulation_plots ../shared/data docs/simulation
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import numpy as np
from astropy.io import fits
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.simulation_figures import (
    REAL_MAPS,
    FluxStatistics,
    grid_ratios,
    nuclear_measurements,
    simulated_nuclei,
    spaxel_ratios,
)
from cubeprep.line_ratios import kauffmann2003, kewley2001
from cubeprep.masks import DAPPIXMASK
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.cube import observe
from cubeprep.simulate.dap import write_maps
from cubeprep.simulate.footprint import sampling
from cubeprep.simulate.galaxy import draw_galaxy
from cubeprep.simulate.instrument import WAVE, noise_model, resolution
from cubeprep.simulate.maps import aperture, galaxy_maps
from cubeprep.simulate.survey import plan_survey
from cubeprep.simulate.target import Target
from tests.cubeprep.simulated import LIKE_7815_3702, make_galaxy, make_maps

CLASSES = {
    "star_forming": "tab:blue", "composite": "tab:green", "seyfert": "tab:red", "liner": "tab:orange",
    "passive": "tab:brown",
}  # fmt: skip


def bpt(real_data: Path) -> Figure:
    """Nuclei, and spaxels against the photoionisation models."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.3))
    real, ours = nuclear_measurements(real_data), simulated_nuclei(400, 1)
    left.plot(real["nii_ha"], real["oiii_hb"], ",", color="0.55")
    left.plot([], [], "s", color="0.55", ms=3, label="4,918 MaNGA nuclei")
    for name, colour in CLASSES.items():
        chosen = ours["class"] == name
        left.plot(ours["nii_ha"][chosen], ours["oiii_hb"][chosen], ".", color=colour, ms=4, label=name)
    x = np.linspace(-1.6, 0.3, 200)
    left.plot(x[x < -0.05], kauffmann2003(x[x < -0.05]), "k--", lw=0.8)
    left.plot(x, kewley2001(x), "k-", lw=0.8)
    left.set(xlim=(-1.6, 0.7), ylim=(-1.1, 1.3), xlabel="log [N II]/Hα", ylabel="log [O III]/Hβ", title="Nuclei")
    left.legend(fontsize=7, loc="lower left")
    grids, spaxels = grid_ratios(real_data), spaxel_ratios(60, 2)
    for axes, key, label in ((middle, "sii_ha", "log [S II]/Hα"), (right, "oi_ha", "log [O I]/Hα")):
        axes.plot(grids[key], grids["oiii_hb"], ",", color="0.6")
        axes.plot([], [], "s", color="0.6", ms=3, label="10,800 photoionisation models")
        axes.plot(spaxels[key], spaxels["oiii_hb"], ".", ms=1.5, color="tab:blue", label="simulated spaxels")
        low = np.percentile(spaxels[key], 0.1) - 0.5
        axes.set(xlim=(low, 0.6), ylim=(-1.3, 1.3), xlabel=label, title="Spaxels, before dust")
        axes.legend(fontsize=7, loc="lower left")
    return figure


def maps(real_data: Path) -> Figure:
    """The real MAPS 7815-3702 and a simulated galaxy with its parameters."""
    with TemporaryDirectory() as folder:
        paths = [real_data / REAL_MAPS, _like_7815(Path(folder))]
        figure, axes = plt.subplots(2, 6, figsize=(14, 4.9))
        for row, path, label in zip(axes, paths, ("real 7815-3702", "simulated"), strict=True):
            with fits.open(path) as hdus:
                _draw_maps(row, hdus)
            row[0].set_ylabel(label)
    return figure


def _draw_maps(row: np.ndarray, hdus: fits.HDUList) -> None:
    names = [hdus["EMLINE_GFLUX"].header[f"C{n:02d}"] for n in range(1, 23)]
    ha = names.index("Ha-6564")
    good = hdus["EMLINE_GFLUX_MASK"].data & (1 << DAPPIXMASK["DONOTUSE"]) == 0
    flux = {name: np.where(good[i], hdus["EMLINE_GFLUX"].data[i], np.nan) for i, name in enumerate(names)}
    velocity = np.where(good[ha], hdus["EMLINE_GVEL"].data[ha], np.nan)
    bits = sum((hdus["EMLINE_GFLUX_MASK"].data[ha] >> bit & 1) << n for n, bit in enumerate((1, 0, 4, 3)))
    with np.errstate(divide="ignore", invalid="ignore"):
        panels = [
            ("log Hα", np.log10(flux["Ha-6564"]), (-0.5, 2), "viridis"),
            ("velocity, km/s", velocity, (-100, 100), "RdBu_r"),
            ("log [N II]/Hα", np.log10(flux["NII-6585"] / flux["Ha-6564"]), (-0.6, -0.1), "viridis"),
            ("log [O III]/Hβ", np.log10(flux["OIII-5008"] / flux["Hb-4862"]), (-1, 0.4), "viridis"),
            ("log [S II]/Hα", np.log10((flux["SII-6718"] + flux["SII-6732"]) / flux["Ha-6564"]), (-0.7, 0), "viridis"),
            ("mask: no, low coverage, no value", bits, (0, 8), "Greys"),
        ]
    for axes, (title, image, (low, high), colours) in zip(row, panels, strict=True):
        axes.imshow(image, origin="lower", vmin=low, vmax=high, cmap=colours, interpolation="nearest")
        axes.set_title(f"{title} ({low} to {high})" if "mask" not in title else title, fontsize=8)
        axes.set(xticks=[], yticks=[])


def figures(real_data: Path) -> Figure:
    """Fluxes, noise, signs and gradients in these MAPS."""
    with TemporaryDirectory() as folder:
        both = {
            "real 7815-3702": (FluxStatistics.of(real_data / REAL_MAPS), "k"),
            "simulated": (FluxStatistics.of(_like_7815(Path(folder))), "tab:blue"),
        }
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5))
    edges = np.linspace(0, 2.6, 11)
    for label, (statistics, colour) in both.items():
        flux, noise = statistics.values("Ha-6564")
        axes[0, 0].hist(np.log10(flux), bins=np.linspace(-1, 2.2, 30), histtype="step", color=colour, label=label)
        axes[0, 1].loglog(flux, noise, ".", ms=2, color=colour)
        good = statistics.good[0] & (statistics.continuum_ivar > 0)
        axes[0, 2].loglog(statistics.continuum[good], statistics.continuum_ivar[good] ** -0.5, ".", ms=2, color=colour)
        names = [
            "Ha-6564",
            "NII-6585",
            "Hb-4862",
            "SII-6718",
            "OII-3727",
            "OIII-5008",
            "OI-6302",
            "NeIII-3869",
            "HeII-4687",
        ]
        axes[1, 0].plot([statistics.median_snr(n) for n in names], "o-", color=colour)
        axes[1, 0].set_xticks(range(len(names)), names, rotation=60, fontsize=7)
        for name, style in (("oiii_hb", "-"), ("sii_ha", "--"), ("ha_hb", ":")):
            rings = [statistics.ratio(name, edge, edge + 0.26) for edge in edges[:8]]
            axes[1, 1].plot(edges[:8] + 0.13, rings, style, color=colour)
        zeros = [statistics.zeros(n) for n in names]
        axes[1, 2].plot(zeros, "o-", color=colour)
        axes[1, 2].set_xticks(range(len(names)), names, rotation=60, fontsize=7)
    axes[0, 0].set(xlabel="log Hα flux", ylabel="spaxels", title="Flux distribution")
    axes[0, 0].legend(fontsize=8)
    axes[0, 1].set(xlabel="Hα flux", ylabel="its noise", title="Noise of Hα")
    axes[0, 2].set(xlabel="g-band flux density", ylabel="noise per pixel", title="Noise of the continuum")
    axes[0, 2].set(xlim=(0.02, 3), ylim=(0.008, 0.04))
    axes[1, 0].set(yscale="symlog", title="Median signal-to-noise ratio")
    axes[1, 1].set(xlabel="R / Re", title="log [O III]/Hβ (solid), [S II]/Hα (dashed), Hα/Hβ (dotted)")
    axes[1, 1].title.set_fontsize(9)
    axes[1, 2].set(title="Share of fitted fluxes that are zero")
    return figure


def spectra(real_data: Path) -> Figure:
    """Central spectra of simulated galaxies, and real ones."""
    figure, axes = plt.subplots(6, 1, figsize=(12, 12), sharex=True)
    with fits.open(real_data / "spectra" / "MaNGA_test_spectra.fits.gz") as hdus:
        for row, index in zip(axes[:2], (2, 3), strict=True):
            z, flux = hdus["Z"].data[index], hdus["FLUX"].data[index]
            row.plot(WAVE[:-7] / (1 + z), flux[:-7], "k", lw=0.5)
            row.set_title(f"real MaNGA spectrum, z = {z:.3f}", fontsize=8, loc="left")
            row.set_ylim(0, np.percentile(flux, 99.7) * 1.15)
    for row, (name, seed) in zip(
        axes[2:], (("star_forming", 3), ("seyfert", 4), ("liner", 5), ("passive", 6)), strict=True
    ):
        galaxy = draw_galaxy(name, "", 37, (0.02, 0.05), np.random.default_rng(seed))
        seen = galaxy_maps(galaxy, 2.5, np.random.default_rng(seed))
        cube = observe(galaxy, seen, 1.0, 10, np.random.default_rng(seed))
        flux = cube.flux[aperture(37, 1.0)[cube.covered]].mean(axis=0)
        row.plot(WAVE[:-7] / (1 + galaxy.z), flux[:-7], lw=0.5, color=CLASSES[name])
        row.set_title(f"simulated: {name}, z = {galaxy.z:.3f}, log M = {galaxy.log_mass:.1f}", fontsize=8, loc="left")
        row.set_ylim(0, np.percentile(flux, 99.7) * 1.15)
    axes[-1].set(xlim=(3550, 9900), xlabel="wavelength at rest, Å")
    return figure


def instrument(real_data: Path) -> Figure:
    """Noise, resolution, covariance and wavelength-dependent masks."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 7.5))
    with fits.open(real_data / "spectra" / "MaNGA_test_spectra.fits.gz") as hdus:
        ivar, sres = hdus["IVAR"].data[[6, 7]].mean(axis=0), np.median(hdus["SRES"].data[[0, 1, 2, 3, 4, 6, 7]], axis=0)
    with np.errstate(divide="ignore"):
        axes[0, 0].semilogy(WAVE, ivar**-0.5, "k", lw=0.5, label="two faint real spectra")
    axes[0, 0].semilogy(WAVE, np.sqrt(noise_model()[0]), lw=0.5, label="simulated, without a source")
    axes[0, 0].set(title="Noise per pixel", xlabel="wavelength, Å", ylim=(0.004, 0.3))
    axes[0, 0].legend(fontsize=8)
    axes[0, 1].plot(WAVE, sres, "k", label="median of seven real spectra")
    axes[0, 1].plot(WAVE, resolution(WAVE), "--", label="simulated")
    axes[0, 1].set(title="Resolving power", xlabel="wavelength, Å")
    axes[0, 1].legend(fontsize=8)
    galaxy = make_galaxy()
    one, other = (observe(galaxy, make_maps(galaxy), 1.0, 10, np.random.default_rng(seed)) for seed in (1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        chi = (one.flux - other.flux) / np.sqrt(1 / one.ivar + 1 / other.ivar)
    image = np.full((*one.covered.shape, len(WAVE)), np.nan)
    image[one.covered] = np.where((one.mask | other.mask) == 0, chi, np.nan)
    lags = np.arange(1, 8)
    axes[1, 0].plot(lags, [np.nanmean(image[d:] * image[:-d]) for d in lags], "o", label="simulated noise")
    fine = np.linspace(0, 8, 100)
    axes[1, 0].plot(fine, np.exp(-0.5 * (fine / 1.92) ** 2), "k", label="MaNGA (Westfall+2019)")
    axes[1, 0].set(title="Correlation of the noise of spaxels", xlabel="distance, spaxels")
    axes[1, 0].legend(fontsize=8)
    order = np.argsort(-sampling(19).depth[one.covered])
    axes[1, 1].imshow(
        (one.mask > 0)[order] + (one.mask & 1)[order], aspect="auto", cmap="Greys", interpolation="nearest"
    )
    axes[1, 1].set(
        title="Mask: low coverage (grey), none (black)", xlabel="wavelength pixel", ylabel="spaxel, by coverage"
    )
    return figure


def population(real_data: Path) -> Figure:
    """Redshifts by bundle, masses, and equivalent widths."""
    lines = (real_data / "catalogs" / "tabla_manga_full_updated.ecsv").read_text().splitlines()
    rows = [line.split() for line in lines if line[0].isdigit()]
    fibres = np.array([int(row[0].split("-")[1][:-2]) for row in rows])
    z = np.array([float(row[4]) for row in rows])
    config = SimulateConfig(num_galaxies=2000, redshift_range=(0.01, 0.15), repeat_fraction=0, unusual_fraction=0)
    galaxies = [item.galaxy for item in plan_survey(config, 3)]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    for place, num_fibres in enumerate((19, 37, 61, 91, 127)):
        ours = [g.z for g in galaxies if g.num_fibres == num_fibres]
        real = z[(fibres == num_fibres) & (z > 0.01) & (z < 0.15)]
        for shift, values, colour in ((-0.15, real, "k"), (0.15, ours, "tab:blue")):
            low, middle, high = np.percentile(values, [16, 50, 84])
            axes[0].errorbar(place + shift, middle, [[middle - low], [high - middle]], fmt="o", color=colour)
    axes[0].set_xticks(range(5), ["19", "37", "61", "91", "127"])
    axes[0].set(xlabel="fibres", ylabel="redshift (16, 50, 84%)", title="Real (black), simulated (blue)")
    for name, colour in CLASSES.items():
        chosen = [g for g in galaxies if g.galaxy_class == name]
        axes[1].plot([g.log_mass for g in chosen], [g.z for g in chosen], ".", ms=2, color=colour, label=name)
    axes[1].set(xlabel="log mass", ylabel="redshift", title="Two samples: to 1.5 and 2.5 Re")
    axes[1].legend(fontsize=7)
    real_nuclei, nuclei = nuclear_measurements(real_data), simulated_nuclei(400, 1)
    bins = np.linspace(-1.5, 2.5, 40)
    axes[2].hist(
        np.log10(np.maximum(real_nuclei["ha_ew"], 0.01)),
        bins,
        density=True,
        histtype="step",
        color="k",
        label="real nuclei",
    )
    axes[2].hist(np.log10(nuclei["ha_ew"]), bins, density=True, histtype="step", color="tab:blue", label="simulated")
    axes[2].set(xlabel="log EW(Hα), Å", title="Equivalent widths")
    axes[2].legend(fontsize=8)
    return figure


def _like_7815(folder: Path) -> Path:
    """22-line MAPS of a simulated galaxy with the parameters of the real 7815-3702."""
    galaxy = replace(make_galaxy(seed=3, num_fibres=37, **LIKE_7815_3702), pa_deg=163.2)
    seen, path = make_maps(galaxy), folder / "maps.fits.gz"
    cube = observe(galaxy, seen, 1.0, 10, np.random.default_rng(4))
    write_maps({"dr15": path}, Target(8001, "3701", "1-100001", 2.5), galaxy, seen, cube)
    return path


PLOTS: tuple[Callable[[Path], Figure], ...] = (bpt, maps, figures, spectra, instrument, population)


def main(real_data: Path, output: Path, names: list[str]) -> None:
    """Draws all plots, or those named, as PNG."""
    mpl.use("Agg")
    output.mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        if names and plot.__name__ not in names:
            continue
        figure = plot(real_data)
        figure.tight_layout()
        figure.savefig(output / f"{plot.__name__}.png", dpi=72, pil_kwargs={"optimize": True})
        plt.close(figure)
        print(output / f"{plot.__name__}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real_data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    main(arguments.real_data, arguments.output, arguments.names)

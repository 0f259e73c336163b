"""Work on one shard in a worker: extract and augment its galaxies, write the shard whole, then its record."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from cubeprep.augment import augment, view_rng
from cubeprep.checksum import file_checksum
from cubeprep.cube import Rejected, Target
from cubeprep.extract import Extraction, extract_windows, to_grid, window_grid
from cubeprep.line_ratios import line_ratios
from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.outcome import Outcome
from cubeprep.plausible import check_level, doubts, flux_level, signal_share
from cubeprep.prepare_config import GalaxyConfig
from cubeprep.redact import redact
from cubeprep.redshift import NOT_MEASURED, corrected, is_displaced
from cubeprep.registry import place_in
from cubeprep.sampling import check_grid
from cubeprep.stars.starlight import StarlightSummary
from cubeprep.storage import StorageError
from cubeprep.store import StoreError, Windows, WindowStore
from cubeprep.survey import SurveyConfig, make_reader
from cubeprep.velocity import VelocityField
from cubeprep.windows import Continuum, LineWindows, WindowConfig, sealed

# Largest distance of a galaxy from the middle of its windows where the size of their spaxels is unknown: the largest
# cubes, those of MUSE, are one arc minute wide.
MOST_APART_ARCSEC = 60.0


class ShardTask(NamedTuple):
    """Input of a worker for one shard.

    Attributes:
        store_path: path or URL of the store.
        identity: identity that the store must have.
        split: split of the shard.
        shard: number of the shard in its split.
        targets: galaxies of the shard, in the order of its rows.
        num_views: rows of each galaxy, of which the first is not augmented.
        survey: values of the `SurveyConfig`.
        galaxy: values of the `GalaxyConfig`.
        seed: seed of the augmentation.
    """

    store_path: str
    identity: str
    split: str
    shard: int
    targets: list[Target]
    num_views: int
    survey: dict[str, Any]
    galaxy: dict[str, Any]
    seed: int


def make_shard(task: ShardTask) -> list[Outcome]:
    """Writes one shard and its record; the rows of rejected galaxies are masked throughout.

    Returns:
        The outcomes of the galaxies, in the order of the task.

    Raises:
        StorageError: the storage service fails.
        StoreError: the store was replaced by another one.
    """
    survey = SurveyConfig.model_validate(task.survey)
    config = GalaxyConfig.model_validate(task.galaxy)
    reader = make_reader(survey)
    rows: list[LineWindows] = []
    continua: list[Continuum | None] = []
    outcomes = []
    for target in task.targets:
        outcome, observed, continuum = extract_galaxy(reader, target, config)
        outcomes.append(outcome)
        continua.append(continuum)
        rows.append(observed)
        for view in range(1, task.num_views):
            rng = view_rng(task.seed, target.plateifu, view)
            rows.append(LineWindows(*augment(observed.flux, observed.ivar, observed.mask, config.augment, rng)))
    flux, ivar, mask = (np.stack([getattr(row, name) for row in rows]) for name in ("flux", "ivar", "mask"))
    names = np.repeat([target.plateifu for target in task.targets], task.num_views)
    view_index = np.tile(np.arange(task.num_views), len(task.targets))
    store = open_store(task.store_path, task.identity)
    store.write_shard(task.split, task.shard, Windows(flux, ivar, mask, names, view_index))
    if store.has_continuum:
        store.write_continuum(task.split, task.shard, [each or _no_continuum(config.windows) for each in continua])
    store.write_record(task.split, task.shard, [asdict(outcome) for outcome in outcomes])
    return outcomes


@lru_cache(maxsize=2)
def open_store(path: str, identity: str) -> WindowStore:
    """Store that the tasks of a run write to; its metadata are read once per worker.

    Raises:
        StoreError: there is another store at this path by now.
    """
    store = WindowStore.open_unfinished(path)
    if store.identity != identity:
        raise StoreError(f"{path} was replaced by another store while this run wrote to it.")
    return store


def extract_galaxy(reader: Any, target: Target, config: GalaxyConfig) -> tuple[Outcome, LineWindows, Continuum | None]:
    """Outcome, windows and continuum of one galaxy; the windows of a rejected galaxy are masked throughout.

    Raises:
        StorageError: the storage service fails.
    """
    try:
        return _extract(reader, target, config)
    except Rejected as rejected:
        return Outcome(target.plateifu, rejected.code, redact(rejected.reason)), _all_masked(config.windows), None
    except StorageError:
        raise  # says nothing about this galaxy: the run stops, and a rerun resumes here
    except Exception as error:  # noqa: BLE001 - one damaged file must not stop the survey
        where = target.paths[0] if target.paths else target.plateifu
        reason = redact(f"{where}: {type(error).__name__}: {error}{place_in(reader, error)}")
        return Outcome(target.plateifu, "unreadable", reason), _all_masked(config.windows), None


def _extract(reader: Any, target: Target, config: GalaxyConfig) -> tuple[Outcome, LineWindows, Continuum | None]:
    z, limits = target.z, config.redshift
    found, velocity = read_windows(reader, target, z, config)
    offset = found.offset
    flagged = is_displaced(offset, limits, found.stars.velocity_kms if found.stars.share > 0.5 else np.nan)
    if flagged and limits.correct:
        z = corrected(z, offset)
        found, velocity = read_windows(reader, target, z, config)
    windows, noise = sealed(found.windows), found.noise_ratio
    good = windows.mask == 0
    if not good.any():
        raise Rejected(*_why_all_masked(windows.mask, target.paths[0]))
    covered = float(good.mean())
    if covered < config.min_covered:
        reason = f"{target.paths[0]}: {covered:.1%} of the samples are good, {config.min_covered:.1%} are asked for"
        raise Rejected("low_coverage", reason)
    level, share = flux_level(windows), signal_share(windows)
    check_level(windows, level, reader.facts.flux_unit, target.paths[0])
    position, misplaced = _position(target, found.sky, config.windows.size)
    stars: dict[str, Any] = _star_columns(found.stars, config.windows)
    outcome = Outcome(
        target.plateifu,
        covered=covered,
        median_snr=float(np.median(windows.flux[good] * np.sqrt(windows.ivar[good].astype(np.float64)))),
        z_used=z,
        z_offset_kms=offset.offset_kms if np.isfinite(offset.offset_kms) else None,
        z_offset_snr=offset.snr,
        z_flag=flagged,
        noise_ratio=noise if np.isfinite(noise) else None,
        signal_share=share,
        flux_level=level,
        implausible=doubts(noise, share),
        remarks=redact("; ".join([*found.remarks, *misplaced])),
        velocity=redact(velocity),
        **position,
        wcs=json.dumps(dict(found.sky)) if found.sky else "",
        lines=_line_columns(found, windows, config.windows, z),
        **stars,
        source=target.source,
        source_checksum=";".join(file_checksum(path, config.checksum) for path in target.files),
    )
    return outcome, windows, found.continuum


def _position(target: Target, sky: Mapping[str, str | float], length: int) -> tuple[dict[str, Any], list[str]]:
    """Position for `Outcome` by the cube's header, if the survey gives none; a remark if it gives one outside."""
    if not sky:
        return {}, []
    from astropy.coordinates import angular_separation
    from astropy.io.fits import Header

    from cubeprep.fits.wcs import centre_on_sky, spaxel_arcsec

    given, found = (target.ra_deg, target.dec_deg), centre_on_sky(sky, length)
    if not np.isfinite(found).all():
        return {}, []
    if not np.isfinite(given).all():
        return dict(zip(("ra_deg", "dec_deg"), found, strict=True)), []
    apart_arcsec = 3600 * np.degrees(angular_separation(*np.radians([*given, *found])))
    side = length * spaxel_arcsec(Header(dict(sky)))
    if apart_arcsec <= (side / 2 if np.isfinite(side) else MOST_APART_ARCSEC):
        return {}, []
    first, second = (f"ra {ra:.5f}, dec {dec:.5f}" for ra, dec in (given, found))
    apart = f"{apart_arcsec:.1f} arcsec" if apart_arcsec < 3600 else f"{apart_arcsec / 3600:.1f} degrees"
    wide = f", which are {side:.1f} arcsec wide" if np.isfinite(side) else ""
    far = f"{apart} from the middle of its windows at {second}{wide},"
    return {}, [f"the survey's position {first} is {far} by the cube's header"]


def _line_columns(found: Extraction, windows: LineWindows, config: WindowConfig, z: float) -> dict[str, float | None]:
    if found.continuum is None:
        return {}
    return line_ratios(windows, found.continuum, config, z, found.re_spaxels, found.star_error, found.covariance)


def _star_columns(stars: StarlightSummary, windows: WindowConfig) -> dict[str, float | None]:
    """Quantities of the stars for `Outcome`; None where unknown, empty where no stars are subtracted."""
    if not windows.subtracts_stars:
        return {}
    values = {f"stellar_{name}": value for name, value in stars._asdict().items()}
    values["d4000"] = values.pop("stellar_d4000")
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}


def read_windows(reader: Any, target: Target, z: float, config: GalaxyConfig) -> tuple[Extraction, str]:
    """Windows of one galaxy, cut at redshift `z` from the files that its survey's reader opens.

    Args:
        reader: a `CubeReader` or `MapReader`.
        target: the galaxy.
        z: redshift at which the windows are cut.
        config: windows, redshift check and velocities.

    Returns:
        The extraction, and the value of `Outcome.velocity`.

    Raises:
        Rejected: its files cannot be used, or too few of its lines are in range.
    """
    windows = config.windows
    if reader.grid != "maps":
        # Imported here: a configuration is checked without astropy, which takes half a second to import.
        from cubeprep.fits.cubefile import CubeFile

        arms = reader.open(target)
        if not isinstance(arms, Sequence):
            raise TypeError(f"open of the reader gives a {type(arms).__name__}, expected a list of arms")
        for arm in arms:
            check_grid(arm.wave, windows, target.paths[0])
            if isinstance(arm, CubeFile):
                arm.reads_to_end = config.verify == "full"
        field, velocity = _velocity_field(reader, target, arms[0], z, config)
        extraction = extract_windows(
            arms,
            z,
            windows,
            source=target.paths[0],
            re_arcsec=target.re_arcsec,
            check_redshift=config.redshift.check,
            velocity=field,
            model=partial(reader.starlight, target, arms[0]) if windows.continuum == "dap" else None,
        )
        if isinstance(arm := arms[0], CubeFile):
            sky = arm.sky(windows.read_size)
            extraction = _with_sky(extraction, sky, max(arm.shape), arm.spaxel_arcsec, target.re_arcsec, windows)
        return extraction, velocity
    maps = reader.read_maps(target, windows.line_names, windows.read_size)
    flux, ivar, mask = (values[:, None] for values in (maps.flux, maps.ivar, maps.mask))
    one_sample = LineWindows(np.where(mask == 0, flux, np.nan), ivar, mask)
    gridded = to_grid(one_sample, maps.spaxel_arcsec, target.re_arcsec, windows, target.paths[0])
    extraction = Extraction(gridded, NOT_MEASURED, remarks=maps.remarks)
    length = maps.flux.shape[-1]
    return _with_sky(extraction, maps.sky, length, maps.spaxel_arcsec, target.re_arcsec, windows), ""


def _with_sky(
    extraction: Extraction,
    sky: Mapping[str, str | float],
    length: int,
    spaxel_arcsec: float,
    re_arcsec: float,
    config: WindowConfig,
) -> Extraction:
    """Extraction with the celestial axes of its windows; `sky` are those of the planes, `length` spaxels a side."""
    from cubeprep.fits.wcs import moved_sky

    if grid := window_grid(length, spaxel_arcsec, re_arcsec, config, ""):
        sky = moved_sky(sky, (grid.start, grid.start), grid.scale)
    return extraction._replace(sky=sky)


def _velocity_field(
    reader: Any, target: Target, arm: Any, z: float, config: GalaxyConfig
) -> tuple[VelocityField | None, str]:
    """Velocity field that the windows follow, if any, and the value of `Outcome.velocity`."""
    if not config.velocity.correct:
        return None, ""
    try:
        velocity_kms, z_maps = reader.velocity(target, arm, config.windows.read_size, config.velocity)
        field = VelocityField.about(velocity_kms, z_maps, z, config.velocity)
        if not field.known.any():
            raise Rejected("no_velocity", f"{target.maps}: no spaxel has a velocity of {config.velocity.tracer}")
    except Rejected as rejected:
        if config.velocity.missing == "reject":
            raise
        return None, str(rejected)
    return field, "corrected"


def _all_masked(config: WindowConfig) -> LineWindows:
    shape = (len(config.line_list), config.num_samples, config.size, config.size)
    mask = np.full(shape, WINDOW_MASK_BITS["REJECTED"], dtype=np.uint8)
    return LineWindows(np.full(shape, np.nan, dtype=np.float32), np.zeros(shape, dtype=np.float32), mask)


def _no_continuum(config: WindowConfig) -> Continuum:
    shape = (len(config.line_list), config.size, config.size)
    nothing = np.zeros(shape, dtype=np.float32)
    return Continuum(np.full_like(nothing, np.nan), nothing, np.zeros(shape[1:], dtype=bool))


def _why_all_masked(mask: np.ndarray, path: str) -> tuple[str, str]:
    shares = {name: float((mask & bit > 0).mean()) for name, bit in WINDOW_MASK_BITS.items()}
    shown = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share > 0)
    code = "all_nan" if shares["NONFINITE"] > shares["SURVEY"] else "all_masked"
    return code, f"{path}: no good sample in any window ({shown})"

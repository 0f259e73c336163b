"""Outcome of reading one galaxy, as a shard's record keeps it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """Result of reading one galaxy.

    Attributes:
        plateifu: identifier of the observation.
        code, reason: code and reason of the rejection; empty if the galaxy is accepted.
        covered: share of the samples that are good.
        median_snr: median of flux sqrt(ivar) over good samples, as in the catalog.
        z_used: redshift at which the windows are cut.
        z_offset_kms: velocity of the strong lines relative to the table's redshift, km/s.
        z_offset_snr: signal-to-noise ratio of the offset.
        z_flag: whether the offset exceeds the limit.
        noise_ratio: scatter between lines over the stated errors; None if it was not measured.
        signal_share: share of the covered lines that have a significant flux.
        flux_level: 90th percentile of |flux| over good samples, in the store's unit.
        implausible: implausible values, in words; empty if there are none.
        remarks: differences of its files from their own checksums, and limits of the fit of the stars, in words; empty
            if there are none.
        velocity: `corrected`, or why windows do not follow the galaxy's velocity field; empty if not configured.
        ra_deg, dec_deg: middle of the windows on the sky, ICRS, where the survey gives no position; else None.
        wcs: cards of the celestial axes of the windows, as a JSON object; empty if the file does not give them.
        lines: equivalent widths and line ratios, by name of the column; empty where no continuum is kept.
        stellar_velocity_kms: velocity of the stars relative to `z_used`, km/s; None where no stars were fitted.
        stellar_sigma_kms: median velocity dispersion of the stars beyond the templates' resolution, km/s.
        d4000: narrow 4000 Angstrom break.
        stellar_age_gyr: mean stellar age weighted by the light at 5500 Angstrom, of the logarithm, Gyr.
        stellar_chi2: median reduced chi-square of the fits, outside lines.
        stellar_share: share of the spaxels with light whose stars were subtracted; the others have sidebands alone.
        source: paths of the source files as they were read, joined by `;`; empty in records of earlier versions.
        source_checksum: their checksums, joined by `;`.
    """

    plateifu: str
    code: str = ""
    reason: str = ""
    covered: float = 0.0
    median_snr: float | None = None
    z_used: float | None = None
    z_offset_kms: float | None = None
    z_offset_snr: float | None = None
    z_flag: bool = False
    noise_ratio: float | None = None
    signal_share: float | None = None
    flux_level: float | None = None
    implausible: str = ""
    remarks: str = ""
    velocity: str = ""
    ra_deg: float | None = None
    dec_deg: float | None = None
    wcs: str = ""
    lines: dict[str, float | None] = field(default_factory=dict)
    stellar_velocity_kms: float | None = None
    stellar_sigma_kms: float | None = None
    d4000: float | None = None
    stellar_age_gyr: float | None = None
    stellar_chi2: float | None = None
    stellar_share: float | None = None
    source: str = ""
    source_checksum: str = ""

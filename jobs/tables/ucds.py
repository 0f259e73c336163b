"""UCD of each catalog column: its meaning in the Virtual Observatory's vocabulary (UCD1+, IVOA 1.6)."""

from collections.abc import Mapping

# By full name, or by a prefix that ends in an underscore; the longest match counts.
UCDS: Mapping[str, str] = {
    "plateifu": "meta.id;meta.main",
    "mangaid": "meta.id.parent",
    "z": "src.redshift",
    "z_used": "src.redshift",
    "ra_deg": "pos.eq.ra;meta.main",
    "dec_deg": "pos.eq.dec;meta.main",
    "split": "meta.code",
    "fold": "meta.code",
    "rank": "stat.rank",
    "score": "stat.value",
    "score_": "stat.value",
    "score_mae": "stat.fit.residual;stat.mean",
    "score_chi2": "stat.fit.chi2",
    "score_unexplained": "stat.fit.residual",
    "score_relative": "stat.fit.residual",
    "score_nll": "stat.likelihood",
    "score_density": "stat.param",
    "score_region": "stat.fit.chi2",
    "score_peak": "stat.fit.chi2",
    "score_latent_": "stat.fit.chi2",
    "score_spread": "stat.stdev",
    "p_value": "stat.probability",
    "q_value": "stat.falsepositive",
    "probability_": "stat.probability",
    "label": "meta.note",
    "labelled": "meta.code.status",
    "is_find": "meta.code.status",
    "triage": "meta.code.qual",
    "triage_": "meta.code.qual",
    "hypothesis": "meta.code.class",
    "hypothesis_text": "meta.note",
    "hypothesis_significance": "stat.snr",
    "hypothesis_velocity_kms": "spect.dopplerVeloc",
    "hypothesis_fwhm_kms": "spect.line.width",
    "hypothesis_separation_kms": "spect.dopplerVeloc",
    "hypothesis_wave_angstrom": "em.wl",
    "hypothesis_log_": "spect.line.intensity;arith.ratio",
    "reason_": "meta.note",
    "velocity_offset_kms": "spect.dopplerVeloc",
    "total_flux": "phot.flux.density;em.line",
    "strongest_line": "meta.id;em.line",
    "strongest_line_snr": "stat.snr;em.line",
    "median_snr": "stat.snr;stat.median",
    "num_": "meta.number",
    "top_line": "meta.id;em.line",
    "share_": "stat.fit.residual;arith.ratio;em.line",
    "umap_": "stat.param",
    "umap3_": "stat.param",
    "embedding": "meta.code",
    "neighbours": "meta.id.assoc",
    "neighbour_distances": "stat.param",
    "neighbour_same_object": "meta.code",
    "ew_": "spect.line.eqWidth",
    "log_": "spect.line.intensity;arith.ratio",
    "url": "meta.ref.url",
    "other_observations": "meta.id.cross",
}
# Beginnings of the names of several columns.
FAMILIES = tuple(name for name in UCDS if name.endswith("_"))
# Ends of names of matched columns (`crossmatch`), after a prefix that is not ours.
MATCHED = {"_separation_arcsec": "pos.angDistance", "_num_matches": "meta.number"}
ERROR = "_error"


def ucd_of(column: str) -> str:
    """The UCD of a column; empty for one of another table, whose meaning is unknown."""
    if column.endswith(ERROR):
        value = ucd_of(column.removesuffix(ERROR))
        return value and f"stat.error;{value}"
    for end, ucd in MATCHED.items():
        if column.endswith(end):
            return ucd
    fitting = [name for name in UCDS if name == column or (name.endswith("_") and column.startswith(name))]
    return UCDS[max(fitting, key=len)] if fitting else ""

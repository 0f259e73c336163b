"""Section `score`."""

from typing import Literal

from pydantic import Field

from cubeprep.config import Config

RankBy = Literal["combined", "unexplained", "chi2", "relative", "mae"]


class ScoreConfig(Config):
    """Scores, neighbours and UMAP."""

    model: str | None = Field(
        None, description="models:/NAME@ALIAS, models:/NAME/VERSION or a model's folder; default: the champion"
    )
    rank_by: RankBy = Field(
        "combined", description="Score that ranks; the paper's is `mae`, which sorts galaxies by brightness"
    )
    fdr: float = Field(0.1, gt=0, lt=1, description="Nominal false discovery rate of `is_find`")
    calibration_galaxies: int = Field(512, ge=3, description="Galaxies that each model is calibrated on, at most")
    psf_fwhm_spaxels: float = Field(5.0, gt=0, description="What falls faster than that is an artefact; MaNGA: 5")
    spaxel_arcsec: float | None = Field(None, gt=0, description="For places in words; default: they are in spaxels")
    num_workers: int = Field(0, ge=0, description="Tasks at once on Ray; 0 scores in this process")
    batch_size: int = Field(16, ge=1, description="Galaxies a batch; no influence on results")
    device: str = Field("cpu", description="Such as cpu or cuda")
    num_neighbours: int = Field(5, ge=1, description="Nearest neighbours kept of each galaxy")
    umap_neighbours: int = Field(15, ge=2, description="Galaxies that UMAP takes for a neighbourhood")
    umap_min_dist: float = Field(0.1, ge=0, description="How closely UMAP packs galaxies")

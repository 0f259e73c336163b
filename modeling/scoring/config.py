"""Section `score` of the configuration."""

from typing import Literal

from pydantic import Field

from cubeprep.config import Config

RankBy = Literal["combined", "unexplained", "chi2", "relative", "mae"]


class ScoreConfig(Config):
    """Scores, nearest neighbours and UMAP."""

    model: str | None = Field(
        None,
        description="Model to score with: models:/NAME@ALIAS, models:/NAME/VERSION, a folder or `pretrained`; default: "
        "the champion",
    )
    rank_by: RankBy = Field(
        "combined", description="Score that ranks; `mae` is the paper's, which sorts galaxies by brightness"
    )
    fdr: float = Field(0.1, gt=0, lt=1, description="Nominal false discovery rate of `is_find`, between 0 and 1")
    calibration: Literal["auto", "survey", "model"] = Field(
        "auto",
        description="Ordinary galaxies that scores are relative to: those of the `survey`, or those that the `model` "
        "was calibrated on before; auto: the model's, if it has a calibration and the survey fewer than 30 galaxies",
    )
    calibration_galaxies: int = Field(512, ge=3, description="Maximum number of calibration galaxies of each model")
    psf_fwhm_spaxels: float | None = Field(
        None,
        gt=0,
        description="PSF FWHM in spaxels; peaks sharper than the PSF are flagged as artefacts; "
        "default: the survey's (MaNGA: 5), or 5 if unknown",
    )
    spaxel_arcsec: float | None = Field(
        None,
        gt=0,
        description="Side of a spaxel in arcsec; default: the survey's, or positions in spaxels",
    )
    num_workers: int = Field(0, ge=0, description="Ray tasks that run at once; 0 scores in this process, without Ray")
    batch_size: int = Field(
        16, ge=1, description="Galaxies per batch when `search` encodes regions; does not change results"
    )
    device: str = Field(
        "auto", description="PyTorch device, such as cpu or cuda; auto: a GPU if there is one. float32 on either"
    )
    num_neighbours: int = Field(5, ge=1, description="Nearest neighbours listed for each galaxy")
    umap_neighbours: int = Field(15, ge=2, description="UMAP's `n_neighbors`")
    umap_min_dist: float = Field(0.1, ge=0, description="UMAP's `min_dist`: least distance between points of the map")

    @property
    def torch_device(self) -> str:
        """PyTorch device, with `auto` resolved on this machine."""
        import torch

        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

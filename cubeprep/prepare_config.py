"""Configuration of `prepare`, without the libraries that its work needs: shells that complete a key import it too."""

from typing import Literal

from pydantic import Field

from cubeprep.augment import AugmentConfig
from cubeprep.checksum import ChecksumKind
from cubeprep.cluster import DaskConfig
from cubeprep.config import Config
from cubeprep.redshift import RedshiftConfig
from cubeprep.split import SplitConfig
from cubeprep.velocity import VelocityConfig
from cubeprep.windows import WindowConfig


class GalaxyConfig(Config):
    """Extraction of the windows of one galaxy."""

    windows: WindowConfig = Field(WindowConfig(), description="Lines, samples and spaxel grid of the windows")
    redshift: RedshiftConfig = Field(
        RedshiftConfig(), description="Check of the table's redshifts against strong lines"
    )
    velocity: VelocityConfig = Field(VelocityConfig(), description="Windows that follow a galaxy's velocity field")
    augment: AugmentConfig = Field(AugmentConfig(), description="Augmented views of the training galaxies")
    min_covered: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Lowest share of good samples, else the galaxy is rejected; 0 accepts any good sample",
    )
    checksum: ChecksumKind = Field("crc32", description="Checksum of the source files, recorded in galaxies.parquet")
    verify: Literal["full", "windows"] = Field(
        "full",
        description="How far gzipped cubes are read: to the checksum at their end, or only as far as the windows need, "
        "which is faster and lets damage pass unnoticed",
    )


class PrepareConfig(GalaxyConfig):
    """Extraction, augmentation, split and storage of windows."""

    retry_rejected: bool = Field(False, description="Read galaxies again that an earlier run rejected")
    store: str | None = Field(
        None, description="Path or s3:// URL of the store; default: windows.zarr in the workspace"
    )
    split: SplitConfig = Field(SplitConfig(), description="Shares of the validation and test splits")
    galaxies_per_shard: int = Field(
        8, ge=1, description="Galaxies per shard, which is one task and, with all their views, one object per array"
    )
    dask: DaskConfig = Field(DaskConfig(), description="Scheduler or local processes that run the tasks")

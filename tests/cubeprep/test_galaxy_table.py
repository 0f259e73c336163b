"""The table of galaxies, made from records that are read some at a time."""

import io
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cubeprep import galaxy_table, store
from cubeprep.cube import Target
from cubeprep.layout import StorePlan
from cubeprep.outcome import Outcome
from cubeprep.prepare import finish, plan_store
from cubeprep.prepare_config import PrepareConfig
from cubeprep.store import StoreError, WindowStore
from cubeprep.survey import SurveyConfig, SurveyFacts

CONFIG = PrepareConfig(galaxies_per_shard=2)
LINES = {"ew_ha_angstrom": 3.5, "log_nii_ha": None}
NAMES = [f"8000-{index:03d}" for index in range(61)]
BRIGHT, FAILED, UNKNOWN = NAMES[30], NAMES[7], NAMES[0]


def made_targets() -> list[Target]:
    targets = [Target(name, f"1-{name}", 0.03, 180.0, 10.0, (f"cubes/{name}.fits",), 2.5) for name in NAMES]
    unknown = replace(targets[0], z=float("nan"), rejected=("no_redshift", "no redshift"))
    return [unknown, *targets[1:]]


def outcome(name: str, index: int) -> Outcome:
    if name == FAILED:
        return Outcome(name, "unreadable", "made so")
    level = 1e6 if name == BRIGHT else 1 + 0.01 * index
    offset = None if index % 3 else 1.5 * index
    flags = {"z_flag": index == 5, "velocity": "corrected" if index == 6 else ""}
    return Outcome(name, covered=0.9, z_offset_kms=offset, flux_level=level, lines=LINES, **flags)


def unfinished(folder: Path, targets: list[Target]) -> tuple[WindowStore, StorePlan]:
    """A store with the records of all shards."""
    plan = plan_store([each for each in targets if not each.rejected], CONFIG, SurveyConfig(), SurveyFacts(""), seed=3)
    made = WindowStore.create_or_resume(str(folder / "s.zarr"), plan)
    for name, split in plan.splits.items():
        for shard in range(split.num_shards):
            names = [split.plateifu[i] for i in split.galaxies(shard)]
            made.write_record(name, shard, [asdict(outcome(each, NAMES.index(each))) for each in names])
    return made, plan


def parquet(table: pd.DataFrame, rows: int) -> bytes:
    content = io.BytesIO()
    table.to_parquet(content, index=False, write_page_checksum=True, row_group_size=rows)
    return content.getvalue()


def test_groups_of_rows_are_the_bytes_of_the_whole_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (galaxy_table, store):
        monkeypatch.setattr(module, "ROWS_PER_GROUP", 7)
    monkeypatch.setattr(galaxy_table, "RECORDS_AT_ONCE", 2)
    targets = made_targets()
    made, plan = unfinished(tmp_path, targets)
    summary = finish(made, targets, plan.splits)
    table = made.galaxies()
    assert made.read_file("galaxies.parquet") == parquet(table, 7)
    assert list(table["plateifu"]) == NAMES
    assert (table.columns[-1], table.columns[-3]) == ("source", "ew_ha_angstrom")
    assert (table["log_nii_ha"].isna().all(), table["z_offset_kms"].notna().sum()) == (True, 20)
    rows: Mapping[str, Any] = table.set_index("plateifu").to_dict("index")
    assert (rows[UNKNOWN]["code"], rows[FAILED]["code"], rows[UNKNOWN]["split"]) == ("no_redshift", "unreadable", "")
    assert rows[NAMES[5]]["z_flag"]
    assert "above the survey's median" in rows[BRIGHT]["implausible"]
    assert f"implausible values in 1 galaxies ({BRIGHT})" in caplog.text
    counts = {key: value for key, value in summary.items() if key not in ("identity", "splits")}
    assert counts == {
        "galaxies": 61, "accepted": 59, "rejected": 2, "redshift_flags": 1, "implausible": 1, "remarks": 0,
        "correlated_noise": 0, "velocity_corrected": 1, "reasons": {"no_redshift": 1, "unreadable": 1},
    }  # fmt: skip
    assert sum(summary["splits"].values()) == 59
    assert sum(made.num_rows(split) // plan.splits[split].num_views for split in made.splits) == 59
    assert made.read_file("rejected.csv").decode().splitlines()[1:] == [
        f"{UNKNOWN},1-{UNKNOWN},,no_redshift,no redshift",
        f"{FAILED},1-{FAILED},0.03,unreadable,made so",
    ]


def test_a_galaxy_without_an_outcome_is_named(tmp_path: Path) -> None:
    targets = made_targets()
    made, plan = unfinished(tmp_path, targets)
    lost = [plan.splits["validation"].plateifu[i] for i in plan.splits["validation"].galaxies(1)]
    (tmp_path / "s.zarr" / "records" / "validation-00001.json").unlink()
    with pytest.raises(StoreError, match=rf"records: no outcome of {', '.join(lost)}\. Delete the store's folder"):
        finish(made, targets, plan.splits)
    assert not made.finished


def test_passwords_in_remarks_of_old_records_are_not_kept(tmp_path: Path) -> None:
    targets, url = made_targets(), "https://me:CANARY@host/manga/stack"
    plan = plan_store([each for each in targets if not each.rejected], CONFIG, SurveyConfig(), SurveyFacts(""), seed=3)
    made = WindowStore.create_or_resume(str(tmp_path / "s.zarr"), plan)
    for name, split in plan.splits.items():
        for shard in range(split.num_shards):
            names = [split.plateifu[i] for i in split.galaxies(shard)]
            told = {"remarks": f"{url}: far away", "velocity": f"no_maps: {url}"}
            made.write_record(name, shard, [asdict(replace(outcome(each, 1), **told)) for each in names])
    finish(made, targets, plan.splits)
    table = pd.read_parquet(tmp_path / "s.zarr" / "galaxies.parquet")
    assert table["remarks"].str.contains("https://host/manga/stack: far away").sum() == len(NAMES) - 1
    assert not table.astype(str).apply(lambda column: column.str.contains("CANARY")).any().any()

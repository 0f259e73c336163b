"""What `prepare` tells beside its counts."""

from pathlib import Path

import pytest

from jobs import prepare
from jobs.config import ProjectConfig
from tests.logcube import write_drpall, write_survey


def test_doubts_about_accepted_galaxies_are_told(tmp_path: Path) -> None:
    config = ProjectConfig(workspace=tmp_path)
    assert prepare._remarks(config, {"accepted": 3, "splits": {"train": 2, "validation": 1}}) == []
    remarks = prepare._remarks(config, {"accepted": 3, "splits": {"train": 3}, "redshift_flags": 2, "implausible": 5})
    assert [remark.split(" ")[0] for remark in remarks] == ["2", "5", "No"]
    assert "z_offset_kms in" in remarks[0]
    corrected = config.prepare.model_copy(
        update={"redshift": config.prepare.redshift.model_copy(update={"correct": True})}
    )
    assert (
        prepare._remarks(
            config.model_copy(update={"prepare": corrected}), {"accepted": 0, "splits": {}, "redshift_flags": 2}
        )
        == []
    )


@pytest.mark.slow
def test_only_damaged_files_are_worth_a_retry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_survey(tmp_path / "survey", {"8000-1": 0.03, "8000-2": 0.3, "8000-3": 0.03}, size=9)
    settings = {"survey": {"root": str(root), "z_max": 0.1}, "prepare": {"dask": {"num_workers": 0}}}
    config = ProjectConfig.model_validate(
        {"workspace": tmp_path, **settings, "prepare": {"windows": {"size": 8}, **settings["prepare"]}}
    )
    assert prepare.run(config) == 3
    assert "1 redshift_range" in (told := capsys.readouterr().out)
    assert "retry" not in told
    (root.rglob("manga-8000-1-LOGCUBE*").__next__()).write_bytes(b"no FITS")
    other = config.model_copy(update={"workspace": tmp_path / "other"})
    assert prepare.run(other) == 3
    assert "retry them with `--set prepare.retry_rejected=true`" in capsys.readouterr().out.replace("\n", " ")
    (root / "drpall.fits").unlink()
    write_drpall(root, [("8000-2", "7-8000-2", 0.3), ("8000-3", "7-8000-3", 0.03)])
    assert prepare.run(config.model_copy(update={"workspace": tmp_path / "third"})) == 3
    told = capsys.readouterr().out.replace("\n", " ")
    assert "galaxies rejected as not_in_table need a new workspace" in told
    assert "retry" not in told

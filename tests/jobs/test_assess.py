"""The assess command on made-up labels, on what `simulate` knows, and on the real tables as far as they can be had."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from jobs import cli
from jobs.assess import folder_name, make_sample
from jobs.reports.assess_report import as_text, num_trained
from jobs.tables.label_tables import Labels, bpt_classes, read_labels
from jobs.tables.read import TableError, read_table
from modeling.catalog import latents_path, read_catalog, read_latents, write_latents
from modeling.labels import label_statistics
from tests.jobs.catalogs import write_synthetic_catalog


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """For intervals, which have tests of their own in `modeling.labels`."""
    assess_label = label_statistics.assess_label
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_statistics, "assess_label", partial(assess_label, num_bootstrap=100))
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("assess")
    write_synthetic_catalog(path / "catalog.parquet", num_galaxies=90)
    return path


def run(workspace: Path, table: Path, *arguments: str) -> tuple[int, str]:
    command = ["assess", "demo", "--set", f"workspace={workspace}", "--labels", str(table), *arguments]
    result = CliRunner().invoke(cli.main, command)
    return result.exit_code, result.output


def labels_of(workspace: Path) -> pd.DataFrame:
    """`cluster`: which of the three latents; `bright`: half of the ten highest scores, in two classes at once."""
    table = read_catalog(workspace / "catalog.parquet").table
    number = table["plateifu"].str.split("-").map(lambda parts: 20 * (int(parts[0]) - 8000) + int(parts[1]) - 1901)
    rank = table["rank"]
    kinds = np.select([rank <= 3, rank <= 10], ["XRAY  RADIO", "XRAY"], "")
    return pd.DataFrame({"plateifu": table["plateifu"], "cluster": number % 3, "kind": kinds, "mass": rank / 10})


@pytest.mark.slow
def test_the_report_says_what_is_true(workspace: Path) -> None:
    labels_of(workspace).to_csv(workspace / "mine.csv", index=False)
    code, text = run(workspace, workspace / "mine.csv", "--label", "kind")
    assert code == 0, text
    folder = workspace / "assess" / "mine-kind"
    found = pd.read_csv(folder / "assessment.csv").set_index("label")
    assert found.loc[["XRAY", "RADIO"], "num_labelled"].tolist() == [10, 3]
    assert found.loc["XRAY", "auroc"] == 1
    assert found.loc["XRAY", "enrichment_top_10"] == pytest.approx(9)
    assert found.loc["RADIO", "enrichment_top_1"] == pytest.approx(30)
    report = (folder / "report.md").read_text()
    assert re.search(r"\| XRAY \| 10 \| 80 \| 1\.00 \(0\.8\d to 1\.00\) \|", report)
    assert "90 of the 90 galaxies" in report
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', page)
    for name in ("scores", "roc", "latents"):
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_clusters_in_latent_space_are_pure(workspace: Path) -> None:
    labels_of(workspace).to_parquet(workspace / "clusters.parquet")
    assert run(workspace, workspace / "clusters.parquet", "--label", "cluster")[0] == 0
    found = pd.read_csv(workspace / "assess" / "clusters-cluster" / "assessment.csv")
    assert found["label"].tolist() == [0, 1, 2]
    assert (found["neighbour_purity"] > 0.9).all()
    assert (found["purity_by_chance"] < 0.4).all()


def test_repeat_observations_are_no_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    write_synthetic_catalog(path)
    catalog = read_catalog(path)
    mangaid = catalog.table.set_index("plateifu")["mangaid"]
    names, latent = read_latents(latents_path(path))
    first = pd.Series(np.arange(len(names)), mangaid[names]).groupby(level=0).first()[mangaid[names]].to_numpy()
    write_latents(latents_path(path), names.tolist(), latent[first], {})  # repeats lie at the very same place
    known = catalog.table["plateifu"].to_numpy(dtype=object)
    sample = make_sample(catalog, path, Labels(known, {}, len(known), ""))
    assert len(set(sample.mangaid)) < len(known)
    assert (sample.neighbours >= 0).all()
    assert not (sample.mangaid[sample.neighbours] == sample.mangaid[:, None]).any()


@pytest.mark.slow
def test_a_threshold_and_a_list_are_labels(workspace: Path) -> None:
    labels_of(workspace).to_csv(workspace / "mass.csv", index=False)
    code, text = run(workspace, workspace / "mass.csv", "--label", "MASS<=2")
    assert code == 0, text
    assert "MASS <= 2" in text
    assert " 20  AUROC 1.00" in text
    labels_of(workspace).query("mass > 5")[["plateifu"]].to_csv(workspace / "list.csv", index=False)
    code, text = run(workspace, workspace / "list.csv")
    assert code == 0, text
    assert re.search(r"listed +40 +AUROC 0.00", text)


@pytest.mark.slow
def test_names_that_the_catalog_lacks_are_counted(workspace: Path) -> None:
    lines = [*labels_of(workspace)["plateifu"].head(5), "manga-8000-1901", "8000-19"]
    (workspace / "typed.csv").write_text("\n".join(["plateifu", *lines]))
    code, text = run(workspace, workspace / "typed.csv")
    assert code == 0, text
    assert "2 names of the table not in the catalog, such as manga-8000-1901" in text


def test_ratios_that_are_no_logarithms_are_doubted(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = labels_of(workspace)[["plateifu"]].assign(nii=0.4, oiii=2.0)
    table.loc[0, "nii"] = -99.9
    table.to_csv(workspace / "linear.csv", index=False)
    run(workspace, workspace / "linear.csv", "--bpt", "nii", "oiii")
    assert "no value of nii and oiii is below 0; are they logarithms of the ratios?" in caplog.text


def test_each_label_has_a_report_of_its_own() -> None:
    path = Path("a.csv")
    wanted = [("ew>20", None), ("ew<20", None), ("ew>=20", None), (None, ("n", "o")), (None, ("n2", "o3"))]
    assert len({folder_name(path, *each) for each in wanted}) == len(wanted)
    assert folder_name(path, "kind", None) == "a-kind"


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("plateifu,kind\n1-1,a\n", ["--label", "kind"], "no galaxy of it (1-1 ...) is in the catalog (8"),
        ("plateifu,kind\n8000-1901,a\n", ["--label", "kid"], "no column 'kid' among kind; did you mean kind?"),
        ("plateifu,kind\n8000-1901,\n1-1,agn\n", ["--label", "kind"], "has a label in column kind; others have agn"),
        (
            "plateifu,kind\n8000-1901,a\n8000-1902,\n",
            ["--label", "kind"],
            "of 2 galaxies in the catalog, a 1: each label needs",
        ),
        ("name,kind\n8000-1901,a\n", ["--label", "kind"], "no column 'plateifu' among name, kind"),
        ("8000-1901\n8000-1902\n", [], "its first line holds the galaxy 8000-1901, but should name the columns"),
        ("plateifu,p\n8000-1901,x\n", ["--label", "p>0.5"], "p holds no numbers"),
        (
            "plateifu,p\n8000-1901,0.7\n8000-1902,80%\n",
            ["--label", "p>0.5"],
            "p of 8000-1902 is '80%', expected a number",
        ),
        ("plateifu,kind\n8000-1901,a\n8000-1902\n", ["--label", "kind"], "line 3 has not as many cells as the first"),
        (
            "plateifu,p\n8000-1901,\n1-1,3\n",
            ["--label", "p>0.5"],
            "p has no value for any galaxy",
        ),
    ],
)
def test_mistakes_are_named(workspace: Path, content: str, arguments: list[str], message: str) -> None:
    (workspace / "wrong.csv").write_text(content)
    code, text = run(workspace, workspace / "wrong.csv", *arguments)
    assert code == 2
    assert message in text
    assert not (workspace / "assess" / "wrong-kind").exists()


def test_numbers_are_no_classes(workspace: Path) -> None:
    labels_of(workspace).to_csv(workspace / "mass.csv", index=False)
    code, text = run(workspace, workspace / "mass.csv", "--label", "mass")
    assert code == 2
    assert (
        "mass holds 90 different numbers, which are not classes; give a threshold, such as --label 'mass>4.55'" in text
    )


def test_a_column_of_labels_is_not_ignored_beside_line_ratios(workspace: Path) -> None:
    labels_of(workspace).assign(nii=-0.4, oiii=0.3).to_csv(workspace / "both.csv", index=False)
    code, text = run(workspace, workspace / "both.csv", "--label", "kind", "--bpt", "nii", "oiii")
    assert code == 2
    assert "--label and --bpt: each says what the labels are; leave out one" in text


def test_bpt_classes_are_those_of_the_curves() -> None:
    nii = np.array([-0.5, -0.1, 0.2, -0.1, 0.6, np.nan, 99, -99.9])
    oiii = np.array([-0.5, 0.0, 0.5, 1.0, -2.0, 0.0, 99, -99.9])
    assert list(bpt_classes(nii, oiii)) == ["star_forming", "composite", "agn", "agn", "agn", "", "", ""]


def test_lists_are_no_labels(workspace: Path) -> None:
    labels = labels_of(workspace)
    labels.assign(kind=[["a", "b"]] * len(labels)).to_parquet(workspace / "lists.parquet")
    code, text = run(workspace, workspace / "lists.parquet", "--label", "kind")
    assert code == 2
    assert "kind holds lists, expected one label or several in a text" in text


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        ({"model": {"trained_on": "abc"}, "store": {"identity": "abc"}}, 90),
        ({"model": {"trained_on": "abc"}, "store": {"identity": "abc"}, "judges": ["a", "b"]}, 0),
        ({"model": {"trained_on": "other"}, "store": {"identity": "abc"}}, 0),
    ],
)
def test_the_report_warns_of_scores_of_galaxies_that_were_trained_on(
    workspace: Path, provenance: dict[str, object], expected: int
) -> None:
    catalog = read_catalog(workspace / "catalog.parquet")
    assert num_trained(replace(catalog, provenance=provenance)) == expected


@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_tables_are_read_and_matched(real_data: Path) -> None:
    folder = real_data / "catalogs"
    known = read_table(folder / "tabla_manga_full_updated.ecsv")["PLATEIFU"].tolist()
    agn = read_labels(folder / "tabla_manga_full_updated.ecsv", known, label="AGN_CLASS", key="plateifu")
    assert agn.num_rows == len(agn.plateifu) == 10_734
    counts = {name: int(chosen.sum()) for name, chosen in agn.labelled.items()}
    assert set(counts) == {"RADIO_AGN", "BROAD_AGN", "WISE_AGN", "BAT_AGN"}
    assert np.logical_or.reduce(list(agn.labelled.values())).sum() == 406
    listed = read_labels(folder / "ENLR_AGNs-2019-04-26.dat", known, key="plateifu")
    assert listed.labelled["listed"].sum() > 140
    bpt = read_labels(folder / "ENLR_AGNs-2019-04-26.dat", known, bpt=("BPT_x", "BPT_y"), key="plateifu")
    assert bpt.labelled["agn"].sum() > 100
    with pytest.raises(TableError, match="AGN_CLASS"):
        read_labels(folder / "tabla_manga_full_updated.ecsv", known, label="AGN_CLAS", key="plateifu")


@pytest.mark.slow
@pytest.mark.realdata
def test_a_catalog_of_real_names_is_assessed_by_selection_method(real_data: Path, tmp_path: Path) -> None:
    """Names are real, scores are made up, since no cubes of these galaxies are at hand: this tests the joining."""
    table = real_data / "catalogs" / "tabla_manga_full_updated.ecsv"
    rows = read_table(table)
    chosen = pd.concat([rows[rows["AGN_CLASS"].str.contains("WISE", na=False)], rows[rows["AGN_CLASS"].isna()][:130]])
    write_synthetic_catalog(tmp_path / "catalog.parquet", names=chosen["PLATEIFU"].tolist())
    code, text = run(tmp_path, table, "--label", "AGN_CLASS")
    assert code == 0, text
    assert f"{len(chosen)} galaxies of the catalog, column AGN_CLASS" in text
    assert re.search(rf"WISE_AGN +{len(chosen) - 130} +AUROC", text)
    assert re.search(r"BROAD_AGN +\d+ +AUROC", text)


EVIL = [
    "![x](//evil.example/a.png)",
    "<img src=//evil.example/b.png>",
    "[in](javascript:alert(1))",
    "=cmd' /C calc'!A0",
]


@pytest.mark.slow
def test_labels_are_data_in_the_report(workspace: Path) -> None:
    """Neither pictures nor links nor formulas, and no mathematics for the plots."""
    from markdown_it import MarkdownIt

    labels = labels_of(workspace)
    labels["evil"] = [(*EVIL, r"$\\frac$ `a` _b_ ~~c~~")[i % 5].replace("  ", " ") for i in range(len(labels))]
    path = workspace / "a<b>&.parquet"
    labels.to_parquet(path)
    code, text = run(workspace, path, "--label", "evil")
    assert code == 0, text
    (folder,) = (workspace / "assess").glob("a_b*evil")
    page, report = ((folder / f"report.{suffix}").read_text() for suffix in ("html", "md"))
    assert "<title>Labels of a&lt;b&gt;&amp;.parquet in score and latent space</title>" in page
    assert page.count("<img") == 3
    assert "<a " not in page
    tokens = [
        token for block in MarkdownIt("commonmark").enable("table").parse(report) for token in block.children or ()
    ]
    shown = "".join(token.content for token in tokens if token.type == "text")
    assert [label for label in set(labels["evil"]) if label not in shown] == []
    assert sum(token.type == "image" for token in tokens) == 3
    assert not [token for token in tokens if token.type in ("link_open", "html_inline", "code_inline", "em_open")]
    names = pd.read_csv(folder / "assessment.csv")["label"]
    assert set(names) == {"'" + name if name.startswith("=") else name for name in labels["evil"]}


def test_a_cell_ends_where_it_should() -> None:
    from markdown_it import MarkdownIt

    table = f"| a | b |\n|---|---|\n| {as_text('x|y &amp; z')} | 2 |\n"
    page = MarkdownIt("commonmark").enable("table").render(table)
    assert re.findall("<td>(.*?)</td>", page) == ["x|y &amp;amp; z", "2"]

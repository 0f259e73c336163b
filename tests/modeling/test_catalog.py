"""Catalog: written and read again with units and provenance, whole or not at all."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling import catalog
from modeling.catalog import (
    CatalogError,
    Column,
    build_table,
    describe_columns,
    latents_path,
    line_names_of,
    read_catalog,
    read_latents,
    write_catalog,
    write_latents,
)
from modeling.latents.neighbours import nearest_neighbours
from modeling.latents.umap_map import Embedding
from modeling.scoring.residual_sums import line_sums, median_snr, scores_from_sums

LINES = ["Hb-4862", "OIII-5008", "Ha-6564"]
PROVENANCE = {
    "store": {"identity": "abc", "path": "windows.zarr"},
    "model": {"reference": "models:/m/3", "version": "3"},
}


def table_of(num_galaxies: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    flux = rng.normal(1, 1, (num_galaxies, 3, 4, 5, 5))
    ivar, mask = np.ones_like(flux), np.zeros(flux.shape, np.uint8)
    sums = line_sums(flux, ivar, mask, np.ones_like(flux))
    galaxies = pd.DataFrame(
        {
            "plateifu": [f"8000-{i}" for i in range(num_galaxies)],
            "mangaid": [f"1-{i // 2}" for i in range(num_galaxies)],
            "z": rng.uniform(0, 0.08, num_galaxies),
            "split": "train",
        }
    )
    latent = rng.normal(size=(num_galaxies, 4))
    maps = tuple(Embedding(rng.normal(size=(num_galaxies, n)), "umap") for n in (2, 3))
    neighbours = nearest_neighbours(latent, galaxies["mangaid"].to_numpy(), 3)
    scores = scores_from_sums(sums, median_snr(flux, ivar, mask))
    return build_table(galaxies, scores, LINES, maps=maps, neighbours=neighbours)


def test_described_types_are_those_of_a_catalog_in_its_file() -> None:
    path = Path(__file__).parents[1] / "data" / "before_rooms" / "line" / "catalog.parquet"
    described = describe_columns(LINES, "", "combined")
    kinds = {name: column.kind for name, column in read_catalog(path).columns.items() if name in described}
    assert len(set(kinds.values())) == 7
    assert kinds == {name: described[name].kind for name in kinds}


@pytest.mark.parametrize("rank_by", ["mae", "chi2"])
def test_a_flux_is_by_spaxel_until_it_is_summed_over_them(rank_by: str) -> None:
    unit = "1e-17 erg / (s cm2 Angstrom spaxel)"
    units = {
        name: column.unit for name, column in describe_columns(LINES, unit, rank_by).items() if "erg" in column.unit
    }
    of_the_score = {"score": unit} if rank_by == "mae" else {}
    assert units == of_the_score | {"score_mae": unit, "total_flux": "1e-17 erg / (s cm2 Angstrom)"}


def test_round_trip_with_units_descriptions_and_provenance(tmp_path: Path) -> None:
    table, path = table_of(), tmp_path / "new" / "catalog.parquet"
    write_catalog(path, table, describe_columns(LINES, "erg", "chi2"), PROVENANCE)
    found = read_catalog(path)
    pd.testing.assert_frame_equal(
        found.table.drop(columns=[name for name in table if name.startswith("neighbour")]),
        table.drop(columns=[name for name in table if name.startswith("neighbour")]),
    )
    for name in ("neighbours", "neighbour_distances", "neighbour_same_object"):
        assert [list(row) for row in found.table[name]] == [list(row) for row in table[name]]
    assert found.provenance == PROVENANCE
    assert found.columns["score_mae"].unit == "erg"
    assert all(column.description for column in found.columns.values())
    assert list(found.columns) == list(table.columns)
    assert line_names_of(found.table) == LINES


def test_rows_are_in_order_of_rank_and_neighbours_are_others() -> None:
    table = table_of()
    assert list(table["rank"]) == [1, 2, 3, 4, 5, 6]
    assert (np.diff(table["score"]) <= 0).all()
    for row in table.itertuples():
        assert row.plateifu not in row.neighbours
        assert len(row.neighbours) == 3
    same = dict(zip(table["plateifu"], table["mangaid"], strict=True))
    for row in table.itertuples():
        assert list(row.neighbour_same_object) == [same[other] == row.mangaid for other in row.neighbours]


def test_other_tools_see_units_without_this_package(tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    write_catalog(path, table_of(), describe_columns(LINES, "erg", "mae"), PROVENANCE)
    schema = pq.read_schema(path)
    assert schema.field("score").metadata == {b"description": b"The score that ranks: score_mae", b"unit": b"erg"}
    assert schema.field("neighbours").type == pa.list_(pa.string())


def test_a_single_galaxy_has_empty_lists_of_the_same_type(tmp_path: Path) -> None:
    one, many = tmp_path / "one.parquet", tmp_path / "many.parquet"
    for path, count in ((one, 1), (many, 5)):
        write_catalog(path, table_of(count), describe_columns(LINES, "erg", "chi2"), PROVENANCE)
    assert pq.read_schema(one) == pq.read_schema(many)
    assert list(read_catalog(one).table["neighbours"][0]) == []


def test_a_write_that_fails_leaves_the_old_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "catalog.parquet"
    write_catalog(path, table_of(3), describe_columns(LINES, "erg", "chi2"), PROVENANCE)
    before = path.read_bytes()

    def fail_half_way(table: pa.Table, where: Path, **_: object) -> None:
        Path(where).write_bytes(b"PAR1 half a file")
        raise OSError("disk full")

    monkeypatch.setattr(catalog.pq, "write_table", fail_half_way)
    with pytest.raises(OSError, match="disk full"):
        write_catalog(path, table_of(6), describe_columns(LINES, "erg", "chi2"), PROVENANCE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_latents_lie_beside_the_catalog(tmp_path: Path) -> None:
    path = latents_path(tmp_path / "catalog.parquet")
    assert path.name == "catalog.latents.parquet"
    latent = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    write_latents(path, ["a", "b", "c", "d"], latent, PROVENANCE)
    plateifu, found = read_latents(path)
    assert list(plateifu) == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(found, latent)


def test_what_is_no_catalog_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cubescout score"):
        read_catalog(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("plateifu,score")
    with pytest.raises(CatalogError, match="not a readable Parquet"):
        read_catalog(tmp_path / "text.parquet")
    (tmp_path / "catalog.fits").write_bytes(b"SIMPLE  =                    T")
    with pytest.raises(CatalogError, match=r"catalog\.fits: expected the \.parquet file"):
        read_catalog(tmp_path / "catalog.fits")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(CatalogError, match="catalog format None"):
        read_catalog(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="without a description: rank"):
        write_catalog(tmp_path / "x.parquet", table_of(), {n: Column("x") for n in table_of() if n != "rank"}, {})


def test_a_flipped_bit_in_a_catalog_or_its_latents_is_refused_or_harmless(tmp_path: Path) -> None:
    path, table = tmp_path / "catalog.parquet", table_of()
    write_catalog(path, table, {name: Column("x") for name in table}, PROVENANCE)
    write_latents(latents_path(path), table["plateifu"].tolist(), np.ones((6, 3)), PROVENANCE)
    rng = np.random.default_rng(0)
    reads = {
        path: lambda file: read_catalog(file).table,
        latents_path(path): lambda file: pq.read_table(file).to_pandas(),
    }
    for file, read in reads.items():
        content, wanted, refused = file.read_bytes(), read(file), 0
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        for place in rng.integers(4, footer, 24):
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(damaged)
            try:
                (read_catalog if file == path else read_latents)(file)
            except CatalogError as error:
                refused += 1
                assert f"{file.name}: not a readable Parquet file" in str(error)  # noqa: PT017
            else:
                pd.testing.assert_frame_equal(read(file), wanted)
        assert refused >= 12

"""Damaged, empty and edited files: every command that reads one names it in one line, without a traceback."""

import json
import re
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jobs import cli
from jobs.config import ProjectConfig
from jobs.promote import PromotionError, read_benchmark
from tests.jobs.catalogs import write_synthetic_catalog
from tests.jobs.test_score import SHAPE, save_tiny_model
from tests.logcube import write_survey
from tests.synthetic import synthetic_store

CONFIG = """
workspace: {folder}
survey: {{root: {folder}/survey, z_max: 0.1}}
prepare:
  windows: {{lines: [Ha-6564], size: 8}}
  split: {{validation: 0.5, test: 0}}
  augment: {{num_views: 1}}
  dask: {{num_workers: 0}}
train: {{num_workers: 0}}
score: {{model: {folder}/model}}
"""
STORE, MODEL, CATALOG, LATENTS = "windows.zarr", "model", "catalog.parquet", "catalog.latents.parquet"
GALAXY = "1005-1900"
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": (),
    "score": (),
    "explore": (),
    "figures": (),
    "export": (),
    "rerank": (),
    "search": (GALAXY,),
    "assess": ("--labels", "{folder}/labels.csv", "--label", "kind"),
    "label": (f"{GALAXY}=agn",),
    "reproduce": (GALAXY,),
}
FILES = {
    f"{STORE}/zarr.json": ("train", "tune", "score", "explore", "figures"),
    f"{STORE}/galaxies.parquet": ("score",),
    f"{STORE}/train/flux/zarr.json": ("score",),
    f"{STORE}/train/valid/zarr.json": ("score",),
    f"{STORE}/train/plateifu/zarr.json": ("score",),
    f"{MODEL}/model.json": ("score",),
    f"{MODEL}/model.safetensors": ("score",),
    CATALOG: ("explore", "figures", "export", "rerank", "search", "assess", "label", "reproduce"),
    LATENTS: ("rerank", "search", "assess"),
    "labels.jsonl": ("rerank",),
    "labels.csv": ("assess",),
}
# A line that was cut was not written to its end: it is left out, as after a crash.
TOLERATED = {("labels.jsonl", "empty"), ("labels.jsonl", "half"), ("labels.csv", "half")}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("intact")
    store = synthetic_store(folder / STORE, shape=SHAPE)
    names = store.galaxies()["plateifu"].tolist()
    save_tiny_model(folder / MODEL)
    write_synthetic_catalog(folder / CATALOG, names=names)
    kinds = ["agn" if i % 2 else "merger" for i in range(len(names))]
    pd.DataFrame({"plateifu": names, "kind": kinds}).to_csv(folder / "labels.csv", index=False)
    label = {"plateifu": GALAXY, "label": "agn", "author": "me", "time_utc": "2026-01-01T00:00:00Z"}
    (folder / "labels.jsonl").write_text(json.dumps(label) + "\n")
    return folder


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    shutil.copytree(intact, tmp_path / "w")
    (tmp_path / "w" / "p.yaml").write_text(CONFIG.format(folder=tmp_path / "w"))
    return tmp_path / "w"


def run(folder: Path, command: str, *options: str) -> Any:
    given = [option.format(folder=folder) for option in options or COMMANDS.get(command, ())]
    first = folder / (CATALOG if command == "reproduce" else "p.yaml")
    return CliRunner().invoke(cli.main, [command, str(first), *given])


def said(result: Any, name: str, what: object, code: int = 1) -> str:
    """The one line that a failed command printed, which names the file."""
    assert isinstance(result.exception, SystemExit), (what, result.exception)
    assert result.exit_code == code, (what, result.output)
    assert "Traceback" not in result.output
    lines = [line for line in result.output.strip().split("\n") if "galaxies (" not in line]  # of prepare's summary
    assert len(lines) == 1, (what, lines)
    assert lines[0].startswith("cubescout: "), (what, lines)
    assert Path(name).name in lines[0] or Path(name).parent.name in lines[0], (what, lines)
    return lines[0]


def damages(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Ways to damage a file, whatever it holds."""
    content = path.read_bytes()
    yield "empty", lambda: _write(path, b"")
    yield "half", lambda: _write(path, content[: len(content) // 2])
    yield "another kind", lambda: _write(path, b"\x89PNG\r\n not what it was")
    if path.suffix == ".json":
        for text in ("[]", "null", "3", '"x"', "{}"):
            yield text, lambda text=text: _write(path, text.encode())
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        empty = pa.table({}).replace_schema_metadata(table.schema.metadata)
        yield "no columns", lambda: pq.write_table(empty, path)
        yield "no plateifu", lambda: pq.write_table(table.drop(["plateifu"]), path)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_every_command_names_the_damaged_file(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for command in FILES[name]:
        for what, change in damages(folder / name):
            if (name, what) in TOLERATED:
                continue
            change()
            # Users write the table of labels themselves: an unreadable one is a mistake.
            said(run(folder, command), name, (command, what), code=2 if name == "labels.csv" else 1)
            (folder / name).write_bytes(content)


SHARDS = {name: f"train/{name}/c/1/0/0/0/0" for name in ("flux", "ivar", "mask")}
OBJECTS = SHARDS | {name: f"train/{name}/c/0" for name in ("valid", "plateifu")}


@pytest.mark.slow
def test_score_refuses_flipped_bits_and_missing_objects_and_says_how_to_mend_them(scored: Path) -> None:
    folder = scored
    catalog = (folder / CATALOG).read_bytes()
    for name, place in OBJECTS.items():
        path = folder / STORE / place
        content = path.read_bytes()
        for byte in (0, len(content) // 3, len(content) // 2, len(content) - 1, None):
            path.unlink()
            if byte is not None:
                path.write_bytes(content[:byte] + bytes([content[byte] ^ 4]) + content[byte + 1 :])
            line = said(run(folder, "score", "--set", "seed=9"), place.partition("/c/")[0], (name, byte))
            if name in SHARDS:
                assert f"{path}: {'missing' if byte is None else 'damaged'}" in line
                assert "delete records/train-00001.json and summary.json, and run `cubescout prepare`" in line
            else:
                assert "Delete the store and run `cubescout prepare` again" in line
            path.write_bytes(content)
            assert (folder / CATALOG).read_bytes() == catalog


def edited(path: Path, keys: tuple[str, ...], value: object) -> None:
    """Replaces one value of a JSON file; `...` removes it."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    path.write_text(json.dumps(content))


ATTRIBUTES = ("attributes", "cubescout")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("identity",), ..., "identity: Field required"),
        (("line_names",), [], "line_names: List should have at least 1 item"),
        (("line_names",), "Ha", "line_names: Input should be a valid list, found 'Ha'"),
        (("num_samples",), -4, "num_samples: Input should be greater than or equal to 1, found '-4'"),
        (("size",), 10**12, "size: the model takes 16, the store holds 1000000000000"),
        (("size",), "16", "size: Input should be a valid integer"),
        (("splits",), {}, "splits: Dictionary should have at least 1 item"),
        (("splits", "train"), None, "splits.train"),
        (("splits", "train", "galaxies_per_shard"), 0, "galaxies_per_shard"),
        (("splits", "other"), {"num_views": 1, "galaxies_per_shard": 1}, "other/"),
        (("config",), [], "config: Input should be a valid dictionary|config: Input should be an object"),
        (("config",), {"prepare": 3}, "config.prepare"),
        (("format_version",), "2", "store format 2"),
    ],
)
def test_edited_metadata_of_a_store_are_refused(
    folder: Path, keys: tuple[str, ...], value: object, message: str
) -> None:
    edited(folder / STORE / "zarr.json", (*ATTRIBUTES, *keys), value)
    line = said(run(folder, "score"), STORE, keys, code=2 if "the model takes" in message else 1)
    assert re.search(message, line), line


ABSURD = (..., None, -1, 0, 7, 10**12, 60_000, "x", [], {}, 1.5)


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["num_lines", "num_samples", "size", "latent_dim", "step_channels", "spaxel_code"])
def test_sizes_of_a_model_are_checked_before_memory_is_taken(folder: Path, argument: str) -> None:
    content = (folder / MODEL / "model.json").read_text()
    saved = json.loads(content)["arguments"][argument]
    tracemalloc.start()
    for value in ABSURD:
        if value == saved:
            continue
        edited(folder / MODEL / "model.json", ("arguments", argument), value)
        if argument in ("step_channels", "spaxel_code") and value is ... and saved in (16, 0):
            continue
        said(run(folder, "score"), f"{MODEL}/model.json", (argument, value))
        (folder / MODEL / "model.json").write_text(content)
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("arguments",), []),
        (("arguments",), {}),
        (("arguments", "steps"), "lines"),
        (("arguments", "decoder"), 3),
        (("arguments", "unheard_of"), 3),
        (("metadata",), None),
        (("metadata", "folds"), -1),
        (("metadata", "folds"), {"num": 10**12, "left_out": 1}),
        (("metadata", "folds"), {"num": 2, "left_out": 2}),
        (("metadata", "folds"), {"num": 3}),
        (("metadata", "line_names"), 3),
        (("metadata", "line_names"), [1, 2]),
        (("metadata", "window_settings"), "x"),
        (("metadata", "store_identity"), []),
        (("architecture",), ["x"]),
        (("format_version",), 99),
        (("format",), ...),
    ],
)
def test_an_edited_model_is_refused(folder: Path, keys: tuple[str, ...], value: object) -> None:
    edited(folder / MODEL / "model.json", keys, value)
    said(run(folder, "score"), f"{MODEL}/model.json", (keys, value))


@pytest.fixture(scope="module")
def scored(project: ProjectConfig) -> Path:
    """A workspace whose catalog comes from its store and model, with its configuration."""
    folder = project.workspace
    (folder / "p.yaml").write_text(CONFIG.format(folder=folder))
    return folder


@pytest.mark.parametrize(
    ("command", "options"),
    [("explore", ()), ("reproduce", (GALAXY,)), ("search", (GALAXY, "--region", "4:8,4:8")), ("score", ())],
)
def test_every_command_that_opens_a_model_names_an_edited_one(
    scored: Path, command: str, options: tuple[str, ...]
) -> None:
    path = scored / MODEL / "model.json"
    whole = path.read_text()
    edits: list[tuple[tuple[str, ...], object]] = [
        (("arguments", "latent_dim"), value) for value in (..., -1, "x", 1e12)
    ]
    edits += [(("metadata", "line_names"), 3), (("architecture",), None), (("arguments",), [])]
    for keys, value in edits:
        edited(path, keys, value)
        said(run(scored, command, *options), f"{MODEL}/model.json", (keys, value))
        path.write_text(whole)
    for content in ("", "{", "[]", "null"):
        path.write_text(content)
        said(run(scored, command, *options), f"{MODEL}/model.json", content)
    path.write_text(whole)


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def with_provenance(value: object) -> Callable[[pa.Table], pa.Table]:
    content = json.dumps({"catalog_format": 1, "provenance": value}).encode()
    return lambda table: table.replace_schema_metadata({b"cubescout": content})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.slice(0, 0), "the catalog holds no galaxy"),
        (lambda table: table.drop(["score"]), "no column 'score'"),
        (lambda table: table.replace_schema_metadata({}), "catalog format None"),
        (lambda table: table.replace_schema_metadata({b"cubescout": b"[]"}), "not JSON, or no mapping"),
        (lambda table: table.replace_schema_metadata({b"cubescout": b"{"}), "not JSON, or no mapping"),
        (with_provenance(None), "provenance"),
        (with_provenance({"store": {"identity": 3}, "model": {"reference": "m"}}), "provenance.store.identity"),
        (with_provenance({"store": {"identity": "a"}, "model": []}), "provenance.model"),
        (with_provenance({"store": {"identity": "a"}}), "provenance.model: Field required"),
        (lambda table: table.set_column(0, "plateifu", pa.array(range(len(table)))), "'plateifu' holds int64"),
        (lambda table: table.drop(["rank"]).append_column("rank", pa.array(["x"] * len(table))), "'rank' holds string"),
    ],
)
def test_a_catalog_without_rows_columns_or_provenance_is_refused(
    folder: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    rewritten(folder / CATALOG, change)
    for command in FILES[CATALOG]:
        assert message in said(run(folder, command), CATALOG, message)


def test_a_column_with_another_name_is_suggested(folder: Path) -> None:
    pd.DataFrame({"plateifu": [GALAXY], "lable": ["agn"]}).to_csv(folder / "mine.csv", index=False)
    line = said(run(folder, "label", "--table", str(folder / "mine.csv")), "mine.csv", "lable", code=2)
    assert line.endswith("no column 'label' among lable; did you mean lable?")


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet", "vot", "dat", "tsv", "csv.gz"])
def test_an_empty_table_is_named(folder: Path, suffix: str) -> None:
    (folder / f"t.{suffix}").write_bytes(b"")
    said(run(folder, "label", "--table", str(folder / f"t.{suffix}")), f"t.{suffix}", suffix, code=2)
    said(run(folder, "assess", "--labels", str(folder / f"t.{suffix}")), f"t.{suffix}", suffix, code=2)


def test_a_file_that_is_no_result_of_the_benchmark_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    for content in (b"", b"PAR1", b"name,pauroc\n"):
        path.write_bytes(content)
        with pytest.raises(PromotionError, match=r"results\.parquet: not a results\.parquet"):
            read_benchmark(path)
    pd.DataFrame({"name": ["Cubescout"], "contamination": [0.01]}).to_parquet(path)
    with pytest.raises(PromotionError, match="pauroc"):
        read_benchmark(path)


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    write_survey(folder / "survey", {"8000-1": 0.03, "8000-2": 0.04}, size=9)
    (folder / "p.yaml").write_text(CONFIG.format(folder=folder))
    assert run(folder, "prepare").exit_code == 0
    return folder


@pytest.fixture
def prepared(prepared_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared_once, tmp_path / "p")
    (tmp_path / "p" / "p.yaml").write_text(CONFIG.format(folder=tmp_path / "p"))
    return tmp_path / "p"


MADE = ("summary.json", "galaxies.parquet", "zarr.json", "records/train-00000.json")


@pytest.mark.parametrize("name", [*MADE, "drpall.fits"])
def test_prepare_names_the_damaged_file(prepared: Path, name: str) -> None:
    path = next(prepared.rglob(name))
    whole, summary = path.read_bytes(), prepared / STORE / "summary.json"
    counts = summary.read_bytes()
    for what, change in damages(path):
        if name == "drpall.fits" and what == "half":
            continue
        change()
        if name.startswith("records"):
            summary.unlink()
        said(run(prepared, "prepare"), name, what, code=2 if name == "drpall.fits" else 1)
        path.write_bytes(whole)
        summary.write_bytes(counts)


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("summary.json", ("accepted",), "many"),
        ("summary.json", ("splits",), 10**12),
        ("records/train-00000.json", (0, "code"), None),
        ("records/train-00000.json", (0, "median_snr"), []),
        ("records/train-00000.json", (0, "velocity"), 10**12),
        ("records/train-00000.json", (0, "plateifu"), ...),
    ],
)
def test_prepare_refuses_edited_records(prepared: Path, name: str, keys: tuple[Any, ...], value: object) -> None:
    edited(prepared / STORE / name, keys, value)
    if name != "summary.json":
        (prepared / STORE / "summary.json").unlink()
    said(run(prepared, "prepare"), name, keys)

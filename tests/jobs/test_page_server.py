"""The served page over HTTP: who is answered, with what, and what is written."""

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image
from starlette.requests import Request
from starlette.testclient import TestClient

from cubeprep.facts import SurveyFacts
from cubeprep.redact import redacted_output
from cubeprep.store import WindowStore
from jobs import explore
from jobs.config import ProjectConfig
from jobs.models import opening
from jobs.page.columns import column_arrays, group_of, selection_csv
from jobs.page.pack import pack, unpack
from jobs.page.server import KEY_HEADER, TOKEN_HEADER, _is_allowed, make_app
from jobs.page.source import Source
from jobs.page.survey_texts import sky_links
from modeling.catalog import Catalog, Column, read_catalog
from modeling.labels.labels import catalog_version, read
from modeling.network.inference import infer

TOKEN = "a-secret"
ADDRESS = "http://127.0.0.1:8900"


def open_source(config: ProjectConfig, send: Callable[[Sequence[str], bool], str] | None = None) -> Source:
    catalog, store = read_catalog(config.catalog_path), WindowStore.open(config.store_path)
    return explore.open_source(config, catalog, store, opening.reopen_model(config, catalog, store), send)


SECRET = {TOKEN_HEADER: TOKEN}


@pytest.fixture
def client(project: ProjectConfig) -> Iterator[TestClient]:
    """One that sends the secret."""
    with TestClient(make_app(open_source(project), TOKEN), base_url=ADDRESS, headers=SECRET) as opened:
        yield opened
    project.labels_path.unlink(missing_ok=True)


@pytest.fixture
def stranger(project: ProjectConfig) -> Iterator[TestClient]:
    """One that does not know the secret."""
    with TestClient(make_app(open_source(project), TOKEN), base_url=ADDRESS) as opened:
        yield opened
    project.labels_path.unlink(missing_ok=True)


def best(config: ProjectConfig) -> str:
    return str(read_catalog(config.catalog_path).table["plateifu"].iloc[0])


def test_the_page_holds_neither_secret_nor_data_and_sets_no_cookie(client: TestClient, project: ProjectConfig) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert TOKEN not in page.text
    assert client.get("/api/survey").headers[KEY_HEADER] not in page.text
    assert best(project) not in page.text
    assert "set-cookie" not in page.headers
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    "path", ["/api/survey", "/api/labels", "/api/galaxies/NAME", "/api/thumbnails/NAME", f"/api/labels?token={TOKEN}"]
)
def test_without_the_secret_nothing_is_given_out(stranger: TestClient, project: ProjectConfig, path: str) -> None:
    for headers in ({}, {TOKEN_HEADER: "guessed"}, {"Cookie": f"cubescout-8900={TOKEN}"}):
        response = stranger.get(path.replace("NAME", best(project)), headers=headers)
        assert response.status_code == 403
        assert "cubescout explore --serve" in response.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:80/?", "127.0.0.1:80/#", "localhost:@x/?"])
def test_a_host_that_ends_in_a_path_opens_nothing(stranger: TestClient, host: str) -> None:
    assert stranger.get("/api/survey", headers={"Host": host}).status_code in (400, 403)
    scope = {"type": "http", "method": "GET", "path": "/api/survey", "headers": [(b"host", host.encode())]}
    assert not _is_allowed(Request(scope | {"query_string": b"", "scheme": "http"}), TOKEN, "key")


def test_the_key_of_thumbnails_opens_nothing_else(stranger: TestClient, project: ProjectConfig) -> None:
    key, name = stranger.get("/api/survey", headers=SECRET).headers[KEY_HEADER], best(project)
    assert stranger.get(f"/api/thumbnails/{name}?v={key}").status_code == 200
    assert stranger.get(f"/api/thumbnails/{name}?v={key[:-1]}").status_code == 403
    for path in (f"/api/galaxies/{name}?v={key}", f"/api/labels?v={key}", f"/api/thumbnails/../labels?v={key}"):
        assert stranger.get(path).status_code == 403


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example:8900", "192.168.0.1"])
def test_another_host_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/survey", headers={"Host": host}).status_code == 400


def test_a_post_without_the_secret_changes_nothing(stranger: TestClient, project: ProjectConfig) -> None:
    body = {"plateifu": best(project), "label": "interesting"}
    for headers in ({}, {TOKEN_HEADER: "guessed"}):
        assert stranger.post("/api/labels", json=body, headers=headers).status_code == 403
    assert not project.labels_path.exists()


def test_a_label_is_appended_with_the_version_that_was_seen(client: TestClient, project: ProjectConfig) -> None:
    name, headers = best(project), {TOKEN_HEADER: TOKEN}
    for label, expected in (("interesting", {name: "interesting"}), ("artefact", {name: "artefact"}), ("", {})):
        response = client.post("/api/labels", json={"plateifu": name, "label": label}, headers=headers)
        assert (response.status_code, response.json()) == (201, expected)
        assert client.get("/api/labels").json() == expected
    history = read(project.labels_path)
    assert history["label"].tolist() == ["interesting", "artefact", ""]
    assert set(history["catalog"]) == {catalog_version(project.catalog_path)}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"plateifu": "9-9", "label": "odd"}, 404, "9-9: not among the 15 galaxies"),
        ({"plateifu": "NAME", "label": "x" * 101}, 422, "at most 100"),
        ({"plateifu": "NAME", "label": "odd", "path": "/etc"}, 422, "path"),
        ([], 422, "object"),
    ],
)
def test_a_label_that_is_none_is_refused(
    client: TestClient, project: ProjectConfig, body: object, status: int, said: str
) -> None:
    content = json.dumps(body).replace("NAME", best(project))
    response = client.post("/api/labels", content=content, headers={TOKEN_HEADER: TOKEN})
    assert response.status_code == status
    assert said in response.json()["error"]
    assert not project.labels_path.exists()


def test_a_broken_file_of_labels_is_named(client: TestClient, project: ProjectConfig) -> None:
    project.labels_path.write_text("no label\n")
    response = client.get("/api/labels")
    assert response.status_code == 409
    assert "labels.jsonl, line 1" in response.json()["error"]


@pytest.mark.parametrize("path", ["/api/galaxies/9-9", "/api/thumbnails/9-9", "/api/galaxies/..%2F..%2Fetc"])
def test_an_unknown_galaxy_is_not_found_and_named(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.json()["error"]


def test_a_galaxy_has_the_store_s_windows_and_the_model_s_reconstruction(
    client: TestClient, project: ProjectConfig
) -> None:
    name = best(project)
    meta, arrays = unpack(client.get(f"/api/galaxies/{name}").content)
    store = WindowStore.open(project.store_path)
    windows = store.read_galaxy(name)
    model = opening.reopen_model(project, read_catalog(project.catalog_path), store)
    found = infer(model.network, windows.flux, windows.ivar, windows.mask)
    good = windows.mask[0] == 0
    np.testing.assert_array_equal(arrays["flux"], windows.flux[0])
    np.testing.assert_allclose(arrays["reconstruction"], found.reconstruction[0], rtol=1e-5)
    np.testing.assert_allclose(arrays["error"][good], windows.ivar[0][good] ** -0.5, rtol=1e-6)
    assert np.isnan(arrays["error"][~good]).all()
    chi2 = (windows.flux[0] - found.reconstruction[0])[good].astype(float) ** 2 * windows.ivar[0][good]
    count = good.sum((0, 1))
    assert np.nansum(arrays["misfit"] * count) == pytest.approx(chi2.sum(), rel=1e-4)
    row = read_catalog(project.catalog_path).table.iloc[0]
    assert meta["row"]["score"] == pytest.approx(row["score"])
    assert [near["plateifu"] for near in meta["neighbours"]] == list(row["neighbours"])
    assert [line["name"] for line in meta["lines"]] == store.line_names


def test_attribution_maps_are_shown_where_scoring_made_them(project: ProjectConfig) -> None:
    name = best(project)
    path = project.catalog_path.with_name("catalog.attribution.zarr")
    group = zarr.open_group(path, mode="w")
    group.create_array("plateifu", shape=(2,), dtype=str)[:] = np.array(["9-9", name], dtype=np.dtypes.StringDType())
    group.create_array("by_spaxel", shape=(2, 16, 16), dtype="float32")[1] = 7.0
    group.create_array("triaged", shape=(2, 5, 16, 16), dtype="float32")[1, 2] = 0.5
    meta, arrays = unpack(open_source(project).galaxy(name))
    covered = (WindowStore.open(project.store_path).read_galaxy(name).mask[0] == 0).any((0, 1))
    assert (arrays["by_spaxel"][covered] == 7).all()
    assert np.isnan(arrays["by_spaxel"][~covered]).all()
    np.testing.assert_array_equal((arrays["triaged"] == 0.5).any((1, 2)), np.arange(5) == 2)
    assert "by_place" not in arrays
    assert set(meta["limits"]) == {"residual_sigma", "chi2", "by_spaxel"}
    group.attrs["created_utc"] = "of another catalog"
    assert "by_spaxel" not in unpack(open_source(project).galaxy(name))[1]


def test_a_thumbnail_is_a_small_picture_that_browsers_keep(client: TestClient, project: ProjectConfig) -> None:
    response = client.get(f"/api/thumbnails/{best(project)}?v=1")
    assert Image.open(io.BytesIO(response.content)).size == (16, 16)
    assert "immutable" in response.headers["cache-control"]


def test_browsers_keep_nothing_of_an_earlier_server(project: ProjectConfig) -> None:
    # Another line of the thumbnails does not change the version of the catalog.
    source = open_source(project)
    keys = set()
    for _ in range(2):
        with TestClient(make_app(source, TOKEN), base_url=ADDRESS, headers=SECRET) as opened:
            keys.add(opened.get("/api/survey").headers[KEY_HEADER])
            page = opened.get("/").text
        served = page.partition("class Served")[2].partition("async function")[0]
        assert served.count("?v=") == served.count("?v=${this.key}") == 2
    assert len(keys) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("damaged"), RuntimeError("CUDA")])
def test_what_fails_is_told_and_logged(
    error: Exception, client: TestClient, project: ProjectConfig, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("jobs.page.source.append", fail)
    response = client.post("/api/labels", json={"plateifu": best(project), "label": "odd"})
    assert (response.status_code, response.json()["error"]) == (500, f"{type(error).__name__}: {error}")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "POST /api/labels failed" in caplog.text


def test_a_name_with_a_slash_is_found(project: ProjectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(project)
    asked: list[str] = []
    monkeypatch.setattr(source, "galaxy", lambda name: asked.append(name) or b"")
    monkeypatch.setattr(source, "thumbnail", lambda name: asked.append(name) or b"")
    with TestClient(make_app(source, TOKEN), base_url=ADDRESS, headers=SECRET) as opened:
        assert opened.get("/api/galaxies/NGC%201%2F2").status_code == 200
        assert opened.get("/api/thumbnails/NGC%201%2F2").status_code == 200
    assert asked == ["NGC 1/2", "NGC 1/2"]


def test_a_selection_is_the_catalog_s_rows_in_the_order_asked_for(client: TestClient, project: ProjectConfig) -> None:
    table = read_catalog(project.catalog_path).table
    names = table["plateifu"].iloc[[4, 1]].tolist()
    response = client.post("/api/selection", json={"plateifu": names}, headers={TOKEN_HEADER: TOKEN})
    found = pd.read_csv(io.StringIO(response.text))
    assert found["plateifu"].tolist() == names
    np.testing.assert_array_equal(found["score"], table["score"].iloc[[4, 1]])
    unknown = client.post("/api/selection", json={"plateifu": ["9-9"]}, headers={TOKEN_HEADER: TOKEN})
    assert unknown.status_code == 404


def test_a_body_without_end_is_cut_off(client: TestClient) -> None:
    response = client.post("/api/selection", content=b" " * (2**23 + 1), headers={TOKEN_HEADER: TOKEN})
    assert response.status_code == 413


def test_columns_arrive_whatever_their_kind() -> None:
    table = pd.DataFrame(
        {
            "plateifu": ["1-1", "1-2"],
            "ra_deg": [123.4567891, np.nan],
            "rank": [1, 2],
            "wise_id": [2**24 + 1, 1],
            "triage": ["", "cosmic_ray"],
            "is_find": [True, False],
            "reason_1": ["Ha excess", None],
            "neighbours": [["1-2"], ["1-1"]],
        }
    )
    described, arrays = column_arrays(Catalog(table, {"ra_deg": Column("Right ascension", "deg")}, {}))
    meta, arrays = unpack(pack({"columns": described}, arrays))
    columns = {column["name"]: column for column in meta["columns"]}
    assert "neighbours" not in columns
    expected = {"name": "ra_deg", "group": "Galaxy", "description": "Right ascension", "unit": "deg", "kind": "number"}
    assert columns["ra_deg"] == expected
    np.testing.assert_array_equal(arrays["ra_deg"], table["ra_deg"])
    np.testing.assert_array_equal(arrays["wise_id"], table["wise_id"])
    assert arrays["rank"].dtype == np.float32
    assert columns["triage"]["categories"] == ["cosmic_ray"]
    assert arrays["triage"].tolist() == [-1, 0]
    assert [columns["is_find"]["categories"][code] for code in arrays["is_find"]] == ["yes", "no"]
    assert columns["plateifu"]["values"] == ["1-1", "1-2"]
    assert arrays["reason_1"].tolist() == [0, -1]
    assert selection_csv(table, ["1-2"], {"1-2": "odd"}).splitlines()[1].endswith("1-1,odd")


def test_every_column_of_a_catalog_is_in_a_group_of_the_menus(project: ProjectConfig) -> None:
    described, _ = column_arrays(read_catalog(project.catalog_path))
    groups = {column["name"]: column["group"] for column in described}
    texts = {"plateifu", "mangaid", "url"}  # which are in no menu
    assert {name for name, group in groups.items() if group == "Other columns"} == texts
    assert [groups[name] for name in ("score_mae", "top_line", "z")] == ["Score", "Lines", "Galaxy"]
    assert (group_of("z_flag"), group_of("zoo_P_MERGE")) == ("Galaxy", "Other columns")


def test_a_message_refuses_what_the_page_cannot_read() -> None:
    with pytest.raises(ValueError, match="complex128"):
        pack({}, {"x": np.zeros(1, complex)})
    with pytest.raises(ValueError, match="JSON"):
        pack({"x": float("nan")}, {})


def test_a_port_that_is_taken_is_named(project: ProjectConfig) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} .*--port"):
            explore.run(project, serve=True, port=port)


def test_serving_writes_no_page(project: ProjectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    assert explore.run(project, serve=True, port=0) == 0
    assert not Path(project.page_path).exists()


def test_a_served_page_is_announced_with_the_secret_that_opens_it(
    project: ProjectConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    with redacted_output():  # as all commands run
        explore.run(project, serve=True, port=0)
    assert re.search(r"^  http://127\.0\.0\.1:\d+/#token=[\w-]{32}$", capsys.readouterr().out, re.MULTILINE)


def test_images_of_the_sky_are_refused_where_nothing_is_known_of_the_survey(project: ProjectConfig) -> None:
    wanted = project.explore.model_copy(update={"sky_image": "sdss"})
    with pytest.raises(ValueError, match=r"explore\.sky_image: sdss"):
        explore.run(project.model_copy(update={"explore": wanted}))


def test_chosen_galaxies_are_sent_to_other_programs_and_failures_are_told(project: ProjectConfig) -> None:
    sent: list[tuple[list[str], bool]] = []

    def send(names: Sequence[str], as_table: bool) -> str:
        sent.append((list(names), as_table))
        if len(names) > 1:
            raise ValueError("no SAMP hub is running here")
        return "sent to Aladin"

    headers = {TOKEN_HEADER: TOKEN}
    first, second = read_catalog(project.catalog_path).table["plateifu"].tolist()[:2]
    with TestClient(make_app(open_source(project, send), TOKEN), base_url=ADDRESS) as opened:
        assert opened.post("/api/samp", json={"plateifu": [first], "as_table": False}).status_code == 403
        answers = [
            opened.post("/api/samp", json={"plateifu": names, "as_table": table}, headers=headers)
            for names, table in (([first], False), ([second, first], True), ([first, "9-9"], True))
        ]
    assert [answer.status_code for answer in answers] == [200, 409, 404]
    assert answers[0].json() == {"message": "sent to Aladin"}
    assert answers[1].json() == {"error": "no SAMP hub is running here"}
    assert sent == [([first], False), ([second, first], True)]


def test_positions_are_linked_to_archives_unless_the_galaxies_are_simulated(client: TestClient) -> None:
    real, simulated = (SurveyFacts("", page_url=url) for url in ("https://dr17.sdss.org/{plateifu}", ""))
    assert unpack(client.get("/api/survey").content)[0]["sky_links"] == {}  # nothing is known of this store's survey
    assert {"SIMBAD", "NED", "ESO archive", "DESI Legacy viewer"} == sky_links(real).keys()
    for template in sky_links(real).values():
        assert template.startswith("https://")
        assert "{" not in template.replace("{ra}", "1.5").replace("{dec}", "-2.5")
        assert template.count("{ra}") == template.count("{dec}") >= 1
    assert sky_links(simulated) == {}

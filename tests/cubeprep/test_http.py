"""Cubes on a web server: streamed if gzipped, read in ranges if not; and what the server's failures cost."""

import gzip
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from astropy.table import Table

from cubeprep import remote
from cubeprep.prepare import prepare
from cubeprep.storage import StorageError, open_file
from cubeprep.store import WindowStore
from cubeprep.survey import SurveyConfig
from cubeprep.tables import read_table
from tests.cubeprep.test_prepare import CONFIG
from tests.logcube import cube_hdus, write_drpall, write_gzipped
from tests.s3 import forget_connections

NAMES = ("8000-1", "8000-2", "8000-3")


class WebServer(ThreadingHTTPServer):
    """Files of a folder, with an index page, ranges and entity tags, each of which can be taken away."""

    folder: Path
    has_index = True
    has_ranges = True
    has_tags = True
    cuts: int = 0  # answers of cubes that are cut off half-way, from now on

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.sent = 0
        self.requests: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent where a client has read enough."""


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def translate_path(self, path: str) -> str:
        return str(self.server.folder / path.partition("?")[0].strip("/"))

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_dir() and self.server.has_index:
            getattr(super(), f"do_{self.command}")()
            return
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        part = self._range(len(content))
        self.server.requests.append(f"{self.command} {path.name} {part.start}-{part.stop}")
        self.send_response(206 if part != slice(0, len(content)) else 200)
        if part != slice(0, len(content)):
            self.send_header("Content-Range", f"bytes {part.start}-{part.stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(part.stop - part.start))
        if self.server.has_tags:
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        self.end_headers()
        if self.command == "GET":
            self._send(content[part], cut="LOGCUBE" in path.name)

    do_HEAD = do_GET

    def _range(self, size: int) -> slice:
        value = self.headers.get("Range")
        if not value or not self.server.has_ranges:
            return slice(0, size)
        first, _, last = value.removeprefix("bytes=").partition("-")
        return slice(int(first), min(int(last) + 1, size) if last else size)

    def _send(self, content: bytes, *, cut: bool) -> None:
        if cut and self.server.cuts:
            self.server.cuts -= 1
            content, self.close_connection = content[: len(content) // 2], True
        for start in range(0, len(content), 1 << 16):
            self.wfile.write(content[start : start + (1 << 16)])
            self.server.sent += len(content[start : start + (1 << 16)])

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("www")
    for seed, name in enumerate(NAMES):
        hdus = cube_hdus(0.02 + 0.004 * seed, seed=seed, size=9)
        if name == NAMES[-1]:
            hdus.writeto(root / f"manga-{name}-LOGCUBE.fits")
        else:
            write_gzipped(hdus, root / "8000" / f"manga-{name}-LOGCUBE.fits.gz")
    write_drpall(root, [(name, name, 0.02 + 0.004 * seed) for seed, name in enumerate(NAMES)])
    return root


@pytest.fixture
def server(folder: Path) -> Iterator[WebServer]:
    forget_connections()
    server = WebServer(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def survey(server: WebServer, **changes: object) -> SurveyConfig:
    return SurveyConfig(**{"root": f"{server.url}/", **changes})


@pytest.fixture(scope="module")
def wanted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    path = str(tmp_path_factory.mktemp("local") / "s.zarr")
    prepare(CONFIG, SurveyConfig(root=str(folder)), path, seed=3)
    return WindowStore.open(path)


def assert_same(path: Path, wanted: WindowStore) -> None:
    for name in NAMES:
        one, other = (store.read_galaxy(name) for store in (WindowStore.open(str(path)), wanted))
        assert one.flux.tobytes() == other.flux.tobytes()


def test_a_survey_below_an_index_page(server: WebServer, wanted: WindowStore, tmp_path: Path) -> None:
    assert prepare(CONFIG, survey(server), str(tmp_path / "s"), seed=3)["accepted"] == len(NAMES)
    assert_same(tmp_path / "s", wanted)
    gzipped = [request for request in server.requests if "GET" in request and ".gz" in request]
    assert len(gzipped) == 2, "one request a cube"
    checksums = WindowStore.open(str(tmp_path / "s")).galaxies()["source_checksum"]
    assert checksums.str.match(r"etag:\d+").all()


def test_an_uncompressed_cube_is_not_read_whole(server: WebServer, folder: Path) -> None:
    path = folder / "large.fits"
    hdus = cube_hdus(0.03, size=40)
    hdus.writeto(path, overwrite=True)
    with open_file(f"{server.url}/large.fits") as file:
        for position in (0, 20 << 20, 60 << 20):
            file.seek(position)
            assert file.read(3000) == path.read_bytes()[position : position + 3000]
    path.unlink()
    assert server.sent <= 3 * remote.FIRST_WINDOW


def test_an_uncompressed_cube_that_is_replaced_while_it_is_read_is_not_mixed(server: WebServer, folder: Path) -> None:
    path = folder / "large.fits"
    path.write_bytes(bytes(8 << 20))
    with open_file(f"{server.url}/large.fits") as file:
        file.read(3000)
        path.write_bytes(b"1" * (8 << 20))
        file.seek(6 << 20)
        with pytest.raises(OSError, match="the object was replaced while it was being read"):
            file.read(3000)
    path.unlink()


def test_a_server_that_knows_no_ranges(server: WebServer, wanted: WindowStore, tmp_path: Path) -> None:
    server.has_ranges = server.has_tags = False
    prepare(CONFIG, survey(server), str(tmp_path / "s"), seed=3)
    assert_same(tmp_path / "s", wanted)


def test_a_list_of_files_stands_in_for_an_index(server: WebServer, wanted: WindowStore, tmp_path: Path) -> None:
    server.has_index = False
    with pytest.raises(ValueError, match=r"does not exist, or has no index page\. .*text file \(NAME\.txt\)"):
        prepare(CONFIG, survey(server), str(tmp_path / "none"), seed=3)
    files = [f"8000/manga-{name}-LOGCUBE.fits.gz" for name in NAMES[:2]]
    files.append(f"{server.url}/manga-{NAMES[2]}-LOGCUBE.fits")
    (server.folder / "files.txt").write_text("# cubes\n" + "\n".join([*files, "drpall.fits", ""]))
    prepare(CONFIG, survey(server, root=f"{server.url}/files.txt"), str(tmp_path / "s"), seed=3)
    assert_same(tmp_path / "s", wanted)


def test_a_file_that_is_gone_costs_one_galaxy(server: WebServer, tmp_path: Path) -> None:
    listed = [f"{server.url}/8000/manga-{name}-LOGCUBE.fits.gz" for name in (*NAMES[:2], "8000-3")]
    (tmp_path / "files.txt").write_text("\n".join([*listed, f"{server.url}/drpall.fits"]))
    summary = prepare(CONFIG, SurveyConfig(root=str(tmp_path / "files.txt")), str(tmp_path / "s"), seed=3)
    assert summary["reasons"] == {"missing_file": 1}
    rejected = WindowStore.open(str(tmp_path / "s")).galaxies().set_index("plateifu")["reason"]["8000-3"]
    assert rejected == f"{listed[2]}: no such file"


@pytest.mark.slow
def test_a_connection_that_is_cut_goes_on_where_it_was(server: WebServer, wanted: WindowStore, tmp_path: Path) -> None:
    server.cuts = 2
    prepare(CONFIG, survey(server), str(tmp_path / "s"), seed=3)
    assert not server.cuts
    assert_same(tmp_path / "s", wanted)


@pytest.mark.slow
def test_a_server_that_always_cuts_is_an_error_and_no_galaxy_is_blamed(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, wanted: WindowStore, tmp_path: Path
) -> None:
    monkeypatch.setattr(remote, "MAX_ATTEMPTS", 2)
    server.cuts = 1000
    with pytest.raises(StorageError, match=r"http://127.*LOGCUBE\.fits"):
        prepare(CONFIG, survey(server), str(tmp_path / "s"), seed=3)
    server.cuts = 0
    prepare(CONFIG, survey(server), str(tmp_path / "s"), seed=3)
    assert_same(tmp_path / "s", wanted)


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot", "parquet", "csv.gz"])
def test_tables_of_every_format_are_read_from_a_web_server(server: WebServer, suffix: str) -> None:
    table = Table({"name": ["00123", "b"], "z": [0.02, -9999.0]})
    path = server.folder / f"t.{suffix}"
    if suffix == "parquet":
        table.to_pandas().to_parquet(path)
    elif suffix == "csv.gz":
        path.write_bytes(gzip.compress(b"name,z\n00123,0.02\nb,-9999.0\n"))
    else:
        table.write(path, format={"csv": "ascii.csv", "ecsv": "ascii.ecsv", "vot": "votable"}.get(suffix))
    found = read_table(f"{server.url}/t.{suffix}")
    assert found["name"].tolist() == ["00123", "b"]
    assert found["z"].tolist()[0] == 0.02
    assert found["z"].isna().tolist() == [False, True]

"""Dask on this machine: only the process that started it may use it."""

import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest

from cubeprep.cluster import FEWEST_AHEAD, DaskConfig, local_cluster, run_tasks
from tests.test_architecture import ROOT

pytestmark = pytest.mark.slow  # workers
PAGES = ("", "status", "info/main/workers.html", "json/counts.json", "metrics", "health", "proxy/1/127.0.0.1/status")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Dask's temporary files and those of its workers; no other test's."""
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def cluster(scratch: Path) -> Iterator[Any]:
    with local_cluster(DaskConfig(num_workers=1), 1) as found:
        yield found


def test_its_own_client_runs_tasks(cluster: Any) -> None:
    from distributed import Client

    with Client(cluster) as client:
        assert client.submit(os.getpid).result() != os.getpid()


class Counted(list[int]):
    """Tasks that count how many of them were handed out."""

    taken = 0

    def __iter__(self) -> Iterator[int]:
        for task in super().__iter__():
            self.taken += 1
            yield task


def test_the_scheduler_holds_some_tasks_at_a_time(scratch: Path) -> None:
    tasks = Counted(range(3 * FEWEST_AHEAD))
    results = run_tasks(abs, tasks, DaskConfig(num_workers=1))
    found = {next(results)}
    assert tasks.taken <= FEWEST_AHEAD
    assert found | set(results) == set(range(len(tasks)))


def noisy(address: str) -> None:
    """A task that prints and logs a URL with a password, as libraries do."""
    sys.stderr.write(f"printed {address}\n")
    logging.getLogger("distributed.worker").critical("logged %s", address)


def test_workers_do_not_print_passwords(scratch: Path, capfd: pytest.CaptureFixture[str]) -> None:
    list(run_tasks(noisy, ["s3://me:canary@host/bucket", "https://host/a?password=canary"], DaskConfig(num_workers=1)))
    said = "".join(capfd.readouterr())
    assert "printed s3://host/bucket" in said
    assert "logged s3://host/bucket" in said
    assert "password=***" in said
    assert "canary" not in said


def keys_of_another(cluster: Any) -> Any:
    """Credentials that a stranger can have: their own keys, and trust in the certificate that the cluster shows."""
    from distributed.security import Security

    own = Security.temporary()
    return Security(
        require_encryption=True,
        tls_ca_file=cluster.security.tls_ca_file,
        tls_client_cert=own.tls_client_cert,
        tls_client_key=own.tls_client_key,
    )


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_a_client_without_its_keys_is_refused(cluster: Any, scheme: str, role: str) -> None:
    from distributed import Client

    (worker,) = cluster.workers.values()
    address = {"scheduler": cluster.scheduler_address, "worker": worker.worker_address}[role]
    security = keys_of_another(cluster) if scheme == "tls" else None
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s", "distributed.comm.retry.count": 0}),
        pytest.raises(OSError, match=r"SSL|Timed out|closed|reset|connect"),
    ):
        Client(f"{scheme}://{address.partition('://')[2]}", security=security, timeout=3).submit(os.getuid).result()


def test_it_listens_on_loopback_and_shows_nothing(cluster: Any) -> None:
    me = psutil.Process()
    connections = [c for process in (me, *me.children(recursive=True)) for c in process.net_connections("inet")]
    addresses = {c.laddr for c in connections if c.status == psutil.CONN_LISTEN}
    assert len(addresses) >= 4
    assert {address.ip for address in addresses} == {"127.0.0.1"}
    for address in addresses:
        for page in PAGES:
            with pytest.raises(OSError, match=r"404|reset|closed|timed out"):
                urllib.request.urlopen(f"http://127.0.0.1:{address.port}/{page}", timeout=5)


def test_others_cannot_enter_the_working_folders(cluster: Any) -> None:
    from distributed import Client

    with Client(cluster) as client:
        folders = client.run(lambda dask_worker: dask_worker.local_directory).values()
    for folder in [*folders, cluster.scheduler.local_directory]:
        (private,) = [parent for parent in Path(folder).parents if parent.name.startswith("cubescout-dask-")]
        assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_its_keys_are_in_memory_alone(cluster: Any, scratch: Path) -> None:
    key = cluster.security.tls_client_key
    assert "PRIVATE KEY" in key
    secret = key.splitlines()[1].encode()
    for process in psutil.Process().children(recursive=True):
        assert secret not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert secret not in Path(f"/proc/{process.pid}/environ").read_bytes()
    for path in scratch.rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode):
            assert secret not in path.read_bytes(), path


def test_a_dashboard_is_there_where_it_was_asked_for() -> None:
    with local_cluster(DaskConfig(num_workers=1, dashboard_port=0), 1) as cluster:
        assert cluster.dashboard_link.startswith("http://127.0.0.1:")
        assert urllib.request.urlopen(cluster.dashboard_link, timeout=10).status == 200


# A shell ignores the signal in what it runs in the background, and its children inherit that.
INTERRUPTED = """
import os
import signal
import time
from cubeprep.cluster import DaskConfig, run_tasks

def work(number):
    os.write(1, b"working\\n")  # in one piece: print writes the end of the line by itself
    time.sleep(60)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        list(run_tasks(work, [0, 1], DaskConfig(num_workers=2)))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("starting", [True, False])
def test_ctrl_c_ends_the_workers_without_a_word(tmp_path: Path, starting: bool) -> None:
    """A terminal sends it to the main process and to its workers."""
    (tmp_path / "main.py").write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    if starting:
        while not any("spawn_main" in " ".join(child.cmdline()) for child in psutil.Process(process.pid).children()):
            time.sleep(0.05)
    else:
        assert next(process.stdout) == "working\n"
    os.killpg(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=50)
    assert printed.split()[-1] == "interrupted"
    assert errors == ""

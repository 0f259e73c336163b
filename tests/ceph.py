"""Ceph's S3 server (RADOS gateway) with a cluster of one of each daemon under it, in memory, for `make test-ceph`."""

import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

from tests.s3 import PASSWORD, USER, free_port, wait_for

PROGRAMS = ("ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
CONFIG = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}/run
admin socket = {folder}/run/$name.$pid.asok
log file = {folder}/$name.log
mon data = {folder}/mon
mgr data = {folder}/mgr
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
"""


def why_not() -> str:
    """Why Ceph cannot be started here; empty if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-mgr"
    return "" if os.geteuid() == 0 else "Ceph's daemons need root"


class Ceph:
    """The gateway can be killed and started again; what it stores is in the memory of the OSD, which stays."""

    def __init__(self, folder: Path) -> None:
        self.bucket = "survey"
        self.port = free_port()
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._gateway: subprocess.Popen[bytes] | None = None
        for name in ("run", "mon", "mgr", "osd", "rgw"):
            (folder / name).mkdir()
        fsid, mon_port = uuid.uuid4(), free_port()
        config = folder / "ceph.conf"
        config.write_text(CONFIG.format(fsid=fsid, mon_port=mon_port, folder=folder))
        self._environment = os.environ | {"CEPH_CONF": str(config)}
        try:
            self._start_cluster(str(fsid), mon_port)
        except BaseException:
            self.close()
            raise

    def _start_cluster(self, fsid: str, mon_port: int) -> None:
        monmap = str(self._folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._daemons.append(self._spawn("ceph-mon", "-f", "-i", "a"))
        self._run("ceph", "osd", "create")
        self._run("ceph-osd", "--mkfs", "-i", "0")
        self._daemons.append(self._spawn("ceph-mgr", "-f", "-i", "x"))
        self._daemons.append(self._spawn("ceph-osd", "-f", "-i", "0"))
        keys = ("--access-key", USER, "--secret", PASSWORD)
        self._run("radosgw-admin", "user", "create", "--uid", USER, "--display-name", USER, *keys)

    def start(self) -> None:
        frontend = f"beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1"
        # Without keys there is no encryption either, which the gateway would ask of the monitor.
        data = ("--rgw_data", str(self._folder / "rgw"), "--ms_mon_client_mode", "crc")
        self._gateway = self._spawn("radosgw", "-f", "-n", "client.rgw", *data, "--rgw_frontends", frontend)
        wait_for(self.port, self._gateway)
        self._make_bucket()

    def kill(self) -> None:
        if self._gateway:
            self._gateway.kill()
            self._gateway.wait()
            self._gateway = None

    def close(self) -> None:
        self.kill()
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()

    def _make_bucket(self) -> None:
        from botocore.session import Session

        client = Session().create_client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=USER,
            aws_secret_access_key=PASSWORD,
        )
        client.create_bucket(Bucket=self.bucket)  # no error where it is there: it is the same owner's

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / "daemons.log").open("ab") as log:
            process = subprocess.Popen(command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        time.sleep(0.5)
        return process

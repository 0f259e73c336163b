"""Speed of the extraction against its limit and against astropy, and the cost of workers, S3 and survey size.

One large cube on one core: the limit is the time igzip needs to decompress the bytes of FLUX, IVAR and MASK. astropy
opens the file and slices the same planes of the three HDUs. The cube has 74 x 74 x 4563 samples (127 fibres) and noise
of MaNGA's precision.

A survey of links to one cube: two Dask workers against one; cubes and store on S3 (JuiceFS' gateway on this machine)
against a local folder, in turns, with our processor time and that of the gateway, which runs on the same two cores.
With `--many`, surveys of 100 and of 10,000 tiny galaxies: time and memory of the driver.

    python -m benchmarks.extract [--size 74] [--repeats 3] [--many 100 10000]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
from astropy.io import fits
from botocore.session import Session
from distributed.security import Security
from isal import igzip
from rich.console import Console
from rich.table import Table

from benchmarks.gateway import uploaded
from cubeprep.augment import AugmentConfig
from cubeprep.cluster import DaskConfig, local_cluster
from cubeprep.cube import Target
from cubeprep.prepare import prepare
from cubeprep.prepare_config import GalaxyConfig, PrepareConfig
from cubeprep.sampling import sample_line
from cubeprep.shard import extract_galaxy
from cubeprep.simulate.stars import template
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.windows import WindowConfig

NUM_PLANES = 4563
Z = 0.03
CONFIG = WindowConfig()
STARS = WindowConfig(continuum="stars")


def write_cube(root: Path, size: int) -> Path:
    """Writes a LOGCUBE with the real layout, and drpall with its row."""
    rng = np.random.default_rng(0)
    wave = 3621.59598486 * 10 ** (1e-4 * np.arange(NUM_PLANES))
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    covered = np.hypot(x, y) < size / 2
    sigma = np.float32(0.01)
    stars = template("middle", 0.0, Z, 100.0, 0)
    light = 0.5 * np.exp(-np.hypot(x, y) / (size / 8)) * covered
    flux = (stars[:, None, None] * light).astype(np.float32)
    flux += rng.standard_normal(flux.shape, dtype=np.float32) * sigma * covered
    ivar = (covered / sigma**2 * rng.uniform(0.9, 1.1, flux.shape)).astype(np.float32)
    mask = np.broadcast_to(np.where(covered, 0, 1 | 1 << 10), flux.shape).astype(np.int32)
    cards = {
        "CTYPE3": "WAVE-LOG",
        "CRPIX3": 1.0,
        "CRVAL3": wave[0],
        "CD3_3": wave[0] * np.log(10) * 1e-4,
        "BUNIT": "1E-17 erg/s/cm^2/Ang/spaxel",
    }
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(flux, fits.Header(cards), name="FLUX")]
    hdus += [fits.ImageHDU(ivar, name="IVAR"), fits.ImageHDU(mask, name="MASK"), fits.ImageHDU(wave, name="WAVE")]
    path = root / "manga-1-1-LOGCUBE.fits.gz"
    with igzip.open(path, "wb", compresslevel=2) as file:
        fits.HDUList(hdus).writeto(file)
    write_table(root, ["1-1"])
    return path


def write_table(root: Path, names: list[str]) -> None:
    """Writes drpall.fits with these galaxies."""
    count, text = len(names), f"{max(map(len, names))}A"
    columns = [
        fits.Column("plateifu", text, array=names),
        fits.Column("mangaid", text, array=names),
        *(fits.Column(name, "D", array=np.zeros(count)) for name in ("objra", "objdec")),
        fits.Column("nsa_z", "D", array=np.full(count, Z)),
        fits.Column("drp3qual", "J", array=np.zeros(count, dtype=np.int32)),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.name = "MANGA"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(root / "drpall.fits", overwrite=True)


def plan(root: Path) -> tuple[Any, Target]:
    """Reader and first target of a survey: work done once per survey."""
    survey = SurveyConfig(root=str(root))
    reader = make_reader(survey)
    return reader, select_targets(survey, reader)[0]


def ours(reader: Any, target: Target, config: WindowConfig = CONFIG) -> None:
    """Cuts the 19 windows of one galaxy."""
    outcome, *_ = extract_galaxy(reader, target, GalaxyConfig(windows=config))
    if outcome.code:
        raise RuntimeError(outcome.reason)


def igzip_limit(path: Path, num_bytes: int) -> None:
    """Decompresses the bytes that hold the three HDUs, and nothing else."""
    buffer = memoryview(bytearray(1 << 20))
    with igzip.open(path, "rb") as file:
        while num_bytes > 0:
            num_bytes -= file.readinto(buffer)


def astropy_slice(path: Path) -> None:
    """Opens the file and slices the planes of each line, like a simple script."""
    with fits.open(path) as hdus:
        wave = hdus["WAVE"].data
        for line in CONFIG.line_list:
            start, stop = sample_line(wave, line, Z, CONFIG).planes
            for name in ("FLUX", "IVAR", "MASK"):
                np.array(hdus[name].data[start:stop])


def peak_mib(root: Path, config: str = "CONFIG") -> float:
    """Peak memory of a process that extracts the cube, above its idle memory (Linux)."""
    code = (
        "import re, sys; from pathlib import Path; import benchmarks.extract as b\n"
        "from cubeprep.readers import manga_logcube\n"
        "def status(name):\n"
        "    return int(re.search(name + r':\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024\n"
        "Path('/proc/self/clear_refs').write_text('5')\n"  # resets the peak
        "planned, config = b.plan(Path(sys.argv[1])), getattr(b, sys.argv[2])\n"
        "idle = status('VmRSS'); b.ours(*planned, config); print(status('VmHWM') - idle)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root), config], capture_output=True, text=True, check=True)
    return float(done.stdout)


def write_links(root: Path, source: Path, count: int) -> SurveyConfig:
    """Makes a survey of `count` galaxies that all link to the same file."""
    names = [f"{1 + i // 100}-{i % 100}" for i in range(count)]
    for name in names:
        (root / f"manga-{name}-LOGCUBE.fits.gz").hardlink_to(source)
    write_table(root, names)
    return SurveyConfig(root=str(root))


@contextmanager
def workers(number: int) -> Iterator[PrepareConfig]:
    """Configuration of a `prepare` without augmentation on workers that are already running."""
    with local_cluster(DaskConfig(num_workers=number), number) as cluster, dask.config.set(keys(cluster.security)):
        yield PrepareConfig(
            windows=CONFIG,
            augment=AugmentConfig(num_views=1),
            galaxies_per_shard=4,
            dask=DaskConfig(scheduler=cluster.scheduler_address),
        )


def keys(security: Security) -> dict[str, str]:
    """Settings of Dask for clients of a cluster with this security."""
    return {
        "distributed.comm.tls.ca-file": security.tls_ca_file,
        "distributed.comm.tls.client.cert": security.tls_client_cert,
        "distributed.comm.tls.client.key": security.tls_client_key,
    }


def survey_cost(config: PrepareConfig, survey: SurveyConfig, store: str) -> tuple[float, float, float]:
    """Seconds of a `prepare`, and processor seconds of it and of the S3 gateway."""
    before, began = processor_seconds(), time.perf_counter()
    summary = prepare(config, survey, store, seed=0)
    took, after = time.perf_counter() - began, processor_seconds()
    if summary["rejected"]:
        raise RuntimeError(str(summary))
    return took, after[0] - before[0], after[1] - before[1]


def processor_seconds() -> tuple[float, float]:
    """Processor seconds used so far by this process and its workers, and by S3 gateways among its children."""
    used = {False: 0.0, True: 0.0}
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            used["juicefs" in process.name()] += times.user + times.system
    return used[False], used[True]


def get_seconds(survey: SurveyConfig) -> float:
    """Seconds in which two plain clients receive the cubes: the least that any S3 client on two busy cores adds."""
    client = Session().create_client("s3")
    bucket, _, prefix = str(survey.root).removeprefix("s3://").partition("/")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]

    def receive(key: str) -> None:
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        while body.read(1 << 20):
            pass

    began = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(receive, keys))
    return time.perf_counter() - began


def driver_cost(source: Path, count: int) -> tuple[float, float]:
    """CPU milliseconds per galaxy and peak MiB of a driver that prepares `count` tiny galaxies on two workers."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "survey"
        root.mkdir()
        write_links(root, source, count)
        code = (
            "import re, sys, time\n"
            "from benchmarks.extract import *\n"
            "if __name__ == '__main__':\n"
            "    config = PrepareConfig(windows=CONFIG.model_copy(update={'size': 8}), galaxies_per_shard=32,\n"
            "        augment=AugmentConfig(num_views=1), dask=DaskConfig(num_workers=2))\n"
            "    prepare(config, SurveyConfig(root=sys.argv[1]), sys.argv[2], seed=0)\n"
            "    peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]\n"
            "    print(time.process_time(), int(peak) / 1024)\n"
        )
        script = Path(folder) / "driver.py"
        script.write_text(code)
        command = [sys.executable, str(script), str(root), str(Path(folder) / "store")]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    cpu_seconds, peak = map(float, done.stdout.split())
    return 1000 * cpu_seconds / count, peak


def seconds(actions: Sequence[Callable[[], None]], repeats: int) -> list[float]:
    """Median seconds of each action over several runs, in turns."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, taken in zip(actions, times, strict=True):
            began = time.perf_counter()
            action()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


def one_cube(root: Path, size: int, repeats: int) -> dict[str, float]:
    """Figures of one large cube on one core."""
    path = write_cube(root, size)
    num_bytes = 3 * NUM_PLANES * size**2 * 4
    planned = plan(root)
    ours(*planned)
    ours(*planned, STARS)
    actions = [
        lambda: igzip_limit(path, num_bytes),
        lambda: ours(*planned),
        lambda: ours(*planned, STARS),
        lambda: astropy_slice(path),
    ]
    limit, extraction, stars, peer = seconds(actions, 3 * repeats)
    table = Table("one cube, one core", "seconds", "cubes/s")
    names = ("igzip, FLUX + IVAR + MASK", "cubescout", "cubescout, stars fitted and subtracted", "astropy")
    for name, value in zip(names, (limit, extraction, stars, peer), strict=True):
        table.add_row(name, f"{value:.3f}", f"{1 / value:.2f}")
    Console().print(table)
    return {
        "ratio_igzip_limit": limit / extraction,
        "ratio_igzip_limit_stars": limit / stars,
        "ratio_astropy": peer / extraction,
        "peak_mib": peak_mib(root),
        "peak_mib_stars": peak_mib(root, "STARS"),
    }


def one_survey(folder: Path, repeats: int) -> dict[str, float]:
    """Figures of 48 galaxies of 54 x 54 spaxels: medians of runs in turns, each after a small warm-up survey."""
    (folder / "cube").mkdir()
    (folder / "links").mkdir()
    source = write_cube(folder / "cube", 54)
    survey = write_links(folder / "links", source, 48)
    costs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ("one", "two", "s3")}
    bare = []
    with uploaded(folder / "links", folder / "juicefs") as url:
        remote = survey.model_copy(update={"root": url})
        runs = {"one": (1, survey, str(folder)), "two": (2, survey, str(folder)), "s3": (2, remote, "s3://survey")}
        for repeat in range(repeats):
            for name, (number, cubes, root) in runs.items():
                few = cubes.model_copy(update={"galaxies": tuple(f"1-{i}" for i in range(8))})
                with workers(number) as config:
                    survey_cost(config, few, f"{root}/warm-{name}-{repeat}")
                    costs[name].append(survey_cost(config, cubes, f"{root}/store-{name}-{repeat}"))
            bare.append(get_seconds(remote))
    medians = {name: tuple(np.median(runs, axis=0)) for name, runs in costs.items()}
    return survey_figures(medians, statistics.median(bare))


def survey_figures(costs: dict[str, tuple[float, ...]], bare: float) -> dict[str, float]:
    """Prints the costs of a survey and returns the ratios."""
    table = Table("48 galaxies, 54 x 54", "seconds", "processor seconds", "processor seconds of the gateway")
    labels = {"one": "one worker", "two": "two workers", "s3": "two workers, cubes and store on S3"}
    for name, label in labels.items():
        table.add_row(label, *(f"{value:.2f}" for value in costs[name]))
    table.add_row("only receiving the cubes from S3", f"{bare:.2f}")
    Console().print(table)
    (one, *_), (two, local_cpu, _), (on_s3, own_cpu, gateway_cpu) = (costs[name] for name in labels)
    return {
        "speedup_2_workers": one / two,
        "s3_ratio_local": two / on_s3,
        "s3_ratio_limit": two / (two + bare),
        "s3_ratio_processor_time": local_cpu / (own_cpu + gateway_cpu),
        "s3_ratio_own_processor_time": local_cpu / own_cpu,
    }


def many_galaxies(folder: Path, counts: list[int]) -> dict[str, float]:
    """Time and memory of the driver for surveys of different sizes."""
    (folder / "tiny").mkdir()
    source = write_cube(folder / "tiny", 2)
    table = Table("tiny galaxies", "driver ms per galaxy", "driver peak MiB")
    figures = {}
    for count in counts:
        milliseconds, peak = driver_cost(source, count)
        table.add_row(str(count), f"{milliseconds:.2f}", f"{peak:.0f}")
        figures |= {f"driver_ms_per_galaxy_{count}": milliseconds, f"driver_peak_mib_{count}": peak}
    Console().print(table)
    return figures


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=74)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--many", type=int, nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "one").mkdir()
        figures = one_cube(folder / "one", options.size, options.repeats)
        figures |= one_survey(folder, options.repeats)
        figures |= many_galaxies(folder, options.many) if options.many else {}
    for key, value in figures.items():
        print(f"{key}={value:.3f}")


if __name__ == "__main__":
    main()

"""Extraction of one large MaNGA cube against its physical limit and its obvious peer, on one core.

The limit is the time that igzip needs to decompress the bytes of FLUX, IVAR and MASK; the peer is astropy: open, slice
the same planes of the three HDUs. The cube has 74 x 74 x 4563 samples (127 fibres), noise of MaNGA's precision.

    python -m benchmarks.extract [--size 74] [--repeats 3]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits
from isal import igzip
from rich.console import Console
from rich.table import Table

from cubeprep.sampling import sample_line
from cubeprep.shard import GalaxyConfig, extract_galaxy
from cubeprep.survey import SurveyConfig, make_reader, select_targets
from cubeprep.windows import WindowConfig

NUM_PLANES = 4563
Z = 0.03
CONFIG = WindowConfig()


def write_cube(root: Path, size: int) -> Path:
    """A LOGCUBE of the true layout with a drpall row beside it."""
    rng = np.random.default_rng(0)
    wave = 3621.59598486 * 10 ** (1e-4 * np.arange(NUM_PLANES))
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    covered = np.hypot(x, y) < size / 2
    sigma = np.float32(0.01)
    flux = rng.standard_normal((NUM_PLANES, size, size), dtype=np.float32) * sigma * covered
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
    columns = [("plateifu", "1-1", "3A"), ("mangaid", "1-1", "3A"), ("objra", 0.0, "D"), ("objdec", 0.0, "D")]
    columns += [("nsa_z", Z, "D"), ("drp3qual", 0, "J")]
    table = fits.BinTableHDU.from_columns([fits.Column(n, form, array=[value]) for n, value, form in columns])
    table.name = "MANGA"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(root / "drpall.fits")
    return path


def ours(root: Path) -> None:
    """Cuts the 19 windows."""
    survey = SurveyConfig(root=str(root))
    reader = make_reader(survey)
    (target,) = select_targets(survey, reader)
    outcome, _ = extract_galaxy(reader, target, GalaxyConfig(windows=CONFIG))
    if outcome.code:
        raise RuntimeError(outcome.reason)


def igzip_limit(path: Path, num_bytes: int) -> None:
    """Decompresses the bytes that hold the three HDUs, and nothing else."""
    buffer = memoryview(bytearray(1 << 20))
    with igzip.open(path, "rb") as file:
        while num_bytes > 0:
            num_bytes -= file.readinto(buffer)


def astropy_slice(path: Path) -> None:
    """What a script would do: open the file and slice the planes of each line."""
    with fits.open(path) as hdus:
        wave = hdus["WAVE"].data
        for line in CONFIG.line_list:
            start, stop = sample_line(wave, line, Z, CONFIG).planes
            for name in ("FLUX", "IVAR", "MASK"):
                np.array(hdus[name].data[start:stop])


def peak_mib(root: Path) -> float:
    """Peak memory of a process that extracts the cube, above what it holds when idle (Linux)."""
    code = (
        "import re, sys; from pathlib import Path; import benchmarks.extract as b\n"
        "from cubeprep.readers import manga_logcube\n"
        "def status(name):\n"
        "    return int(re.search(name + r':\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024\n"
        "Path('/proc/self/clear_refs').write_text('5')\n"  # the peak so far is forgotten
        "idle = status('VmRSS'); b.ours(Path(sys.argv[1])); print(status('VmHWM') - idle)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def seconds(action: Callable[[], None], repeats: int) -> float:
    """The median of several runs."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=74)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = write_cube(root, options.size)
        num_bytes = 3 * NUM_PLANES * options.size**2 * 4
        limit = seconds(lambda: igzip_limit(path, num_bytes), options.repeats)
        extraction = seconds(lambda: ours(root), options.repeats)
        peer = seconds(lambda: astropy_slice(path), 1)
        peak = peak_mib(root)
    table = Table("what", "seconds", "cubes/s")
    for name, value in (("igzip, FLUX + IVAR + MASK", limit), ("cubescout", extraction), ("astropy", peer)):
        table.add_row(name, f"{value:.3f}", f"{1 / value:.2f}")
    Console().print(table)
    print(f"ratio_igzip_limit={limit / extraction:.3f}")
    print(f"ratio_astropy={peer / extraction:.2f}")
    print(f"peak_mib={peak:.1f}")


if __name__ == "__main__":
    main()

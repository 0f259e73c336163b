"""The C kernels compile for other processors than this one, where the compiler can target them."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from modeling.network import compile_c

SOURCES = [Path(compile_c.__file__).with_name(f"{name}_cpu.c") for name in ("convlstm", "block", "error_modes")]

# Compilers to try, flags, and an instruction or register that shows the target.
TARGETS = {
    "AVX2": (("cc", "gcc", "clang"), ("-march=x86-64-v3",), "%ymm"),
    "AVX-512": (("cc", "gcc", "clang"), ("-march=x86-64-v4",), "%ymm16"),
    "NEON": (("aarch64-linux-gnu-gcc", "cc", "gcc", "clang"), ("-march=armv8-a",), ".4s"),
}


def compiler_for(names: tuple[str, ...], flags: tuple[str, ...]) -> str | None:
    """First compiler that takes the flags and finds the headers for them."""
    program = "#include <stdlib.h>\n#include <string.h>\nint main(void) { return 0; }\n"
    for path in filter(None, map(shutil.which, names)):
        command = [path, *flags, "-fsyntax-only", "-x", "c", "-"]
        if subprocess.run(command, input=program, text=True, capture_output=True, check=False).returncode == 0:
            return path
    return None


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
@pytest.mark.parametrize("target", TARGETS)
def test_the_kernel_compiles_for(target: str, source: Path, tmp_path: Path) -> None:
    names, flags, sign = TARGETS[target]
    compiler = compiler_for(names, flags)
    if compiler is None:
        pytest.skip(f"no compiler for {target} on this {platform.machine()}")
    common = [flag for flag in compile_c.COMMON_FLAGS if flag != "-shared"]
    made = tmp_path / "kernel.s"
    command = [compiler, *common, *flags, "-S", str(source), "-o", str(made)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert sign in made.read_text()

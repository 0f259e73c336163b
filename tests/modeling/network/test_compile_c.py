import ctypes
import logging
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from modeling.network import compile_c

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
library = compile_c.library.__wrapped__

ANSWER = "int answer(void) { return 42; }"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cubescout"


def source(tmp_path: Path, text: str) -> str:
    path = tmp_path / "answer.c"
    path.write_text(text)
    return str(path)


@needs_compiler
def test_compiles_once_and_takes_it_from_the_cache_afterwards(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = source(tmp_path, ANSWER)
    assert library(name).answer() == 42
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    (made,) = cache.iterdir()
    with monkeypatch.context() as without:
        without.setattr(subprocess, "run", None)
        assert library(name).answer() == 42
    assert library(source(tmp_path, ANSWER.replace("42", "43"))).answer() == 43
    assert len(list(cache.iterdir())) == 2
    assert made.exists()


@needs_compiler
def test_another_processor_gets_a_library_of_its_own(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(source(tmp_path, ANSWER))
    monkeypatch.setattr(compile_c, "_processor", lambda: "another")
    library(source(tmp_path, ANSWER))
    assert len(list(cache.iterdir())) == 2


@needs_compiler
def test_a_compiler_without_openmp_will_do(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc-plain"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    loaded = library("convlstm_cpu.c")
    assert isinstance(loaded, ctypes.CDLL)
    linked = subprocess.run(["ldd", loaded._name], capture_output=True, text=True).stdout
    assert "gomp" not in linked


@needs_compiler
@pytest.mark.skipif(os.name != "posix", reason="has no modes")
def test_a_home_that_is_no_folder_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(compile_c.tempfile, "tempdir", str(tmp_path))
    loaded = library(source(tmp_path, ANSWER))
    assert loaded.answer() == 42
    assert Path(loaded._name).is_relative_to(tmp_path)


@needs_compiler
def test_a_source_that_does_not_compile_is_logged(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert library(source(tmp_path, "int answer(void) { return fortytwo; }")) is None
    assert "fortytwo" in caplog.text
    assert list(cache.iterdir()) == []


def test_without_a_compiler_there_is_no_library(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert library("convlstm_cpu.c") is None
    assert "no C compiler" in caplog.text


def test_the_environment_can_do_without(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBESCOUT_NATIVE", "0")
    assert library("convlstm_cpu.c") is None
    assert not cache.exists()

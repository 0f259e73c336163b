import ctypes
import logging
import os
import shutil
import stat
import subprocess
import sys
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
def test_a_damaged_library_is_compiled_anew(tmp_path: Path, cache: Path) -> None:
    name = source(tmp_path, ANSWER)
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    made = compile_c._compiled(Path(name), compiler)  # not loaded: a process loads no other one from the same path
    made.write_bytes(b"")
    assert library(name).answer() == 42
    assert made.stat().st_size > 1000


@needs_compiler
def test_another_processor_gets_a_library_of_its_own(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(source(tmp_path, ANSWER))
    monkeypatch.setattr(compile_c, "_processor", lambda: "another")
    library(source(tmp_path, ANSWER))
    assert len(list(cache.iterdir())) == 2


@pytest.mark.slow
@needs_compiler
def test_a_compiler_without_openmp_will_do(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc-plain"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    loaded = library("network/convlstm_cpu.c")
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
        assert library("network/convlstm_cpu.c") is None
    assert "no C compiler" in caplog.text


def test_the_environment_can_do_without(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBESCOUT_NATIVE", "0")
    assert library("network/convlstm_cpu.c") is None
    assert not cache.exists()


def planted(cache: Path, tmp_path: Path, answer: int = 13) -> Path:
    """A library of another content under the name that the next one would have."""
    library(source(tmp_path, ANSWER))
    (made,) = cache.iterdir()
    evil = tmp_path / "evil.c"
    evil.write_text(f"int answer(void) {{ return {answer}; }}")
    made.unlink()
    subprocess.run(["cc", "-shared", "-fPIC", str(evil), "-o", str(made)], check=True)
    made.chmod(0o700)
    return made


def load_in_another_process(path: str) -> int:
    """Result of `answer` in a new process; in this one the linker would return the library that is loaded already."""
    code = f"from modeling.network import compile_c; print(compile_c.library.__wrapped__({path!r}).answer())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@needs_compiler
def test_what_is_planted_is_taken_where_it_is_ours(tmp_path: Path, cache: Path) -> None:
    planted(cache, tmp_path)
    assert load_in_another_process(source(tmp_path, ANSWER)) == 13


@needs_compiler
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_library_that_others_may_write_to_is_compiled_anew(tmp_path: Path, cache: Path, mode: int) -> None:
    made = planted(cache, tmp_path)
    made.chmod(mode)
    assert load_in_another_process(source(tmp_path, ANSWER)) == 42
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


@needs_compiler
def test_a_link_in_place_of_a_library_is_replaced(tmp_path: Path, cache: Path) -> None:
    made = planted(cache, tmp_path)
    moved = made.rename(tmp_path / "elsewhere.so")
    made.symlink_to(moved)
    assert load_in_another_process(source(tmp_path, ANSWER)) == 42
    assert not made.is_symlink()


@needs_compiler
@pytest.mark.parametrize("where", ["folder", "parent", "link"])
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path, cache: Path, where: str) -> None:
    planted(cache, tmp_path)
    if where == "link":
        cache.symlink_to(cache.rename(tmp_path / "elsewhere"))
    else:
        (cache if where == "folder" else cache.parent).chmod(0o777)
    assert load_in_another_process(source(tmp_path, ANSWER)) == 42


@needs_compiler
def test_a_parent_such_as_tmp_will_do(tmp_path: Path, cache: Path) -> None:
    planted(cache, tmp_path)
    cache.parent.chmod(0o1777)
    assert load_in_another_process(source(tmp_path, ANSWER)) == 13


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("where", ["file", "folder", "parent"])
def test_what_belongs_to_another_is_not_used(tmp_path: Path, cache: Path, where: str) -> None:
    made = planted(cache, tmp_path)
    os.chown({"file": made, "folder": cache, "parent": cache.parent}[where], 65534, 65534)
    assert load_in_another_process(source(tmp_path, ANSWER)) == 42


@needs_compiler
def test_a_library_for_one_process_is_gone_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    assert load_in_another_process(source(tmp_path, ANSWER)) == 42
    assert list((tmp_path / "scratch").iterdir()) == []

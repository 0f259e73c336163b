"""Runs the programs of a Triton launch side by side under Triton's interpreter, which runs one after another.

Programs that wait for each other need it, and a random order of their steps shows where one does not wait but should.
Needs TRITON_INTERPRET=1 before the import of triton.
"""

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from triton.runtime import interpreter

MOST_TURNS = 100_000


class _Program(Thread):
    """A program, which stops before each load until it is its turn again."""

    def __init__(self, place: tuple[int, int, int], body: Callable[[], None], finished: Event) -> None:
        super().__init__(daemon=True)
        self.place, self.body, self.finished = place, body, finished
        self.turn = Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        self._wait()
        try:
            self.body()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that gives turns
            self.error = error
        self.body = None  # type: ignore[assignment]
        self.finished.set()

    def pause(self) -> None:
        self.finished.set()
        self._wait()

    def _wait(self) -> None:
        self.turn.wait()
        self.turn.clear()
        interpreter.interpreter_builder.set_grid_idx(*self.place)


def _run(places: list[tuple[int, int, int]], body: Callable[[], None], current: list[_Program], seed: int) -> None:
    draws, finished = random.Random(seed), Event()
    waiting = [_Program(place, body, finished) for place in places]
    for program in waiting:
        program.start()
    for _ in range(MOST_TURNS):
        if not waiting:
            return
        current[:] = [draws.choice(waiting)]
        finished.clear()
        current[0].turn.set()
        finished.wait()
        if current[0].error:
            raise current[0].error
        waiting = [program for program in waiting if program.body]
    raise RuntimeError(f"programs still wait after {MOST_TURNS} turns")


@contextmanager
def interleaved(seed: int) -> Iterator[None]:
    """Context in which kernels run with their programs side by side, in a random order that `seed` determines."""
    current: list[_Program] = []

    def launch(self: Any, *arguments: Any, **named: Any) -> None:
        known = inspect.getfullargspec(self.fn).args
        named = {name: value for name, value in named.items() if name in known}
        restore = interpreter._patch_lang(self.fn)
        try:
            bound = inspect.getcallargs(self.fn, *arguments, **named)
            bound = {k: v if k in self.constexprs else interpreter._implicit_cvt(v) for k, v in bound.items()}
            grid = self.grid + (1,) * (3 - len(self.grid))
            interpreter.interpreter_builder.set_grid_dim(*grid)
            places = [(x, y, z) for x in range(grid[0]) for y in range(grid[1]) for z in range(grid[2])]
            _run(places, lambda: self.fn(**bound), current, seed)
        finally:
            restore.restore()

    with pytest.MonkeyPatch.context() as patch:
        for name in ("create_masked_load",):
            original = getattr(interpreter.InterpreterBuilder, name)

            def pausing(self: Any, *arguments: Any, original: Callable[..., Any] = original) -> Any:
                current[0].pause()
                return original(self, *arguments)

            patch.setattr(interpreter.InterpreterBuilder, name, pausing)
        patch.setattr(interpreter.GridExecutor, "__call__", launch)
        yield

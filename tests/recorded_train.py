"""Trainings on Ray whose workers note each step in a file, and wait at given ones for what a test does to them."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Place = tuple[int, int]  # epoch, step


class Steps:
    """The steps that rank 0 has done, in a folder that tests and workers share."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder

    @contextmanager
    def hold_at(self, place: Place) -> Iterator[None]:
        """The training waits after that step until the end of the block."""
        hold = self._hold(place)
        hold.touch()
        yield
        hold.unlink()

    def counts(self) -> Counter[Place]:
        """How often each step was done."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return Counter((int(epoch), int(step)) for epoch, step in map(str.split, lines))

    def worker(self) -> Callable[[dict[str, Any]], None]:
        """To take the place of `modeling.training.ray_train.train_worker`; it travels to the workers by value."""

        def train_worker(payload: dict[str, Any]) -> None:
            from modeling.training import ray_train

            train_rank = ray_train.train_rank

            def run_recorded(job: Any, context: Any, listener: Any) -> Any:
                def listen(event: str, metrics: dict[str, float]) -> None:
                    if listener:
                        listener(event, metrics)
                    if event == "step":
                        self._note((int(metrics["epoch"]), int(metrics["step"])))

                return train_rank(job, context, listen if context.rank == 0 else None)

            ray_train.train_rank = run_recorded
            ray_train.train_worker(payload)

        return train_worker

    @property
    def _log(self) -> Path:
        return self.folder / "steps"

    def _hold(self, place: Place) -> Path:
        return self.folder / f"hold-{place[0]}-{place[1]}"

    def _note(self, place: Place) -> None:
        import time

        with self._log.open("a") as file:
            file.write(f"{place[0]} {place[1]}\n")
        while self._hold(place).exists():
            time.sleep(0.02)


def train(folder: Path, *words: str) -> None:
    """Runs the command `cubescout train` with these words behind it; its workers note their steps in the folder."""
    from jobs import cli
    from modeling.training import ray_train
    from tests import ray_workers

    ray_workers.use()
    ray_train.train_worker = Steps(folder).worker()
    sys.argv = ["cubescout", "train", *words]
    cli.main()

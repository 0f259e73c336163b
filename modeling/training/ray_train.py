"""Training on one worker or many with Ray Train (V2), and in this process without Ray: the same loop for all.

Workers receive the job as JSON, open the store by its path, and share each global batch. The number of workers that a
training begins with decides which galaxies a batch holds; another one later changes neither the batch nor, up to
rounding, the gradient. The same name and storage resume an interrupted run.
"""

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cubeprep.config import digest
from cubeprep.redact import redact_process
from cubeprep.storage import is_remote, size_and_tag
from cubeprep.store import WindowStore
from cubeprep.words import counted
from modeling.network.checkpoint import read_training_state
from modeling.ray_session import ray_session, storage_path
from modeling.training.config import TrainingJob
from modeling.training.context import Context, Listener, LocalContext, Metrics
from modeling.training.fit import Batches, fit
from modeling.training.folds import left_out_of
from modeling.training.loader import Loader, RankShare
from modeling.training.ray_records import remove_half_written
from modeling.training.start import initial_network, objects_seen

logger = logging.getLogger(__name__)

SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray writes it after each checkpoint


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        directory: of the best model, for `checkpoint.load_model`.
        best: metrics of the best epoch, with `best_loss`.
        history: metrics of every epoch, those before an interruption included.
        earlier: whether an earlier run had finished it, so that nothing was trained.
    """

    directory: Path
    best: Metrics
    history: list[Metrics]
    earlier: bool = False

    def selection_loss(self, job: TrainingJob) -> tuple[float, str]:
        """Loss of the best epoch and the name of its measure; only equal measures are comparable.

        That is the validation likelihood, which compares networks and losses: of masked networks, those that are tested
        on the same squares. Without validation galaxies it is the training loss of the same settings.
        """
        if "validation_nll" in self.best:
            side, masked = job.model.hidden_side, job.model.kind == "masked"
            tested = f", {job.train.loss}, of hidden squares of {side} x {side} spaxels" if masked else ""
            return self.best["validation_nll"], f"validation nll{tested}"
        loss = self.best.get("train_reconstruction", self.best["train_loss"])
        return loss, f"train {job.train.loss} with the settings {digest(job.model, job.train)[:12]}"


def train(job: TrainingJob, *, name: str, storage: str, target: Path, listener: Listener | None = None) -> Trained:
    """Trains a model, or resumes a run of the same name in the same storage; takes the model of a finished one.

    Args:
        job: model, store, training settings and number of workers.
        name: of the run, unique in the storage.
        storage: of checkpoints, a directory or an `s3://` URL that workers reach.
        target: folder on this machine for the best model; an existing one is replaced.
        listener: called in this process with steps and epochs as they happen.

    Raises:
        ValueError: the store or the job cannot be used, or the training diverged.
        RuntimeError: workers failed for another reason.
    """
    check_job(job)
    if finished := finished_checkpoint(job, name=name, storage=storage):
        return replace(take_best(finished, target), earlier=True)
    with_ray = job.train.num_workers > 0
    if not with_ray and "://" in storage:
        raise ValueError(f"train.num_workers is 0, which keeps checkpoints in a directory, not at {storage}")
    if _began(name, storage, with_ray=not with_ray) and not _began(name, storage, with_ray=with_ray):
        raise ValueError(
            f"{storage}/{name}: begun with train.num_workers {'0' if with_ray else 'of 1 or more'}, whose checkpoints "
            f"{'Ray' if with_ray else 'a training without Ray'} cannot resume: set it again, or remove that folder"
        )
    if not with_ray:
        train_rank(job, LocalContext(Path(storage) / name, choose_device(job)), listener)
        return take_best(Path(storage) / name / "last", target)
    return _train_with_ray(job, name=name, storage=storage, target=target, listener=listener)


def check_job(job: TrainingJob) -> None:
    """Checks a job here, so that it fails early and with a plain message, not late in a worker.

    Raises:
        ValueError: the store or the model to start from cannot be used, or the batch is too small for the workers.
    """
    store = WindowStore.open(job.store)
    initial_network(job, store)
    for rank in range(max(1, job.train.num_workers)):
        share = RankShare(rank, max(1, job.train.num_workers))
        Loader(store, "train", batch_size=job.train.batch_size, share=share, without=left_out_of(job))


def train_rank(job: TrainingJob, context: Context, listener: Listener | None = None) -> Metrics:
    """Runs one rank's part of a training: builds model and loaders, then runs the loop; returns the last metrics."""
    with _threads(threads_per_worker(job)) if context.device.type == "cpu" else nullcontext():
        return _train_rank(job, context, listener)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Lets PyTorch use so many threads in the block; without Ray, the process goes on after its training."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train_rank(job: TrainingJob, context: Context, listener: Listener | None) -> Metrics:
    store = WindowStore.open(job.store)
    model, start = initial_network(job, store)
    share = RankShare(context.rank, context.world_size)
    options: dict[str, Any] = {
        "batch_size": job.train.batch_size,
        "share": share,
        "seed": job.seed,
        "pin_memory": context.device.type == "cuda",
    }
    training = Loader(
        store,
        "train",
        buffer_rows=job.train.shuffle_rows,
        cache_mib=job.train.cache_mib * 3 // 4,
        without=left_out_of(job),
        **options,
    )
    validation = None
    if "validation" in store.splits and store.num_rows("validation"):
        validation = Loader(store, "validation", cache_mib=job.train.cache_mib // 4, **options).evaluation
    return fit(
        model,
        Batches(
            training.training,
            training.num_batches(),
            validation,
            # As many as configured, not as many workers as there happened to be at the start.
            streams=max(1, job.train.num_workers),
            # Initial weights made from galaxies would replace those of another model.
            first=training.first if job.start is None else None,
        ),
        job.train,
        context,
        seed=job.seed,
        metadata={
            "line_names": store.line_names,
            "store_identity": store.identity,
            "window_settings": store.window_settings,
            "objects_seen": objects_seen(job, store, start),
            "job": job.model_dump(mode="json", exclude={"store": True, "start": {"path"}}),
        },
        listener=listener,
    )


def threads_per_worker(job: TrainingJob) -> int:
    """Threads of each worker: as configured, or this machine's cores divided by its workers."""
    return job.train.threads or max(1, (os.cpu_count() or 1) // max(1, job.train.num_workers))


def choose_device(job: TrainingJob) -> str:
    """Device of a training: `cuda` if the job requires it, or permits it and there is one; else `cpu`.

    Raises:
        ValueError: the job requires a GPU and PyTorch sees none.
    """
    available = torch.cuda.is_available()
    if job.train.use_gpu is True and not available:
        raise ValueError("train.use_gpu is true, but PyTorch sees no GPU here; `auto` takes one where it is")
    return "cuda" if job.train.use_gpu and available else "cpu"


class RayContext:
    """Context of one worker of a Ray Train run."""

    def __init__(self) -> None:
        import ray.train
        import ray.train.torch

        train_context = ray.train.get_context()
        self.rank = int(train_context.get_world_rank())
        self.world_size = int(train_context.get_world_size())
        self.device = ray.train.torch.get_device()

    def wrap(self, model: nn.Module) -> nn.Module:
        """Model in DistributedDataParallel where there is more than one worker, else the model itself."""
        if self.world_size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def sum(self, values: list[float]) -> list[float]:
        """Sums of the values over all workers."""
        if self.world_size == 1:
            return values
        # float64, as the running means that are summed.
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total]

    def report(self, metrics: Metrics | None, checkpoint: Path | None) -> None:
        """Passes metrics and rank 0's checkpoint to Ray, which copies it to the storage.

        Waits until the driver has recorded the checkpoint (up to RAY_TRAIN_HEALTH_CHECK_INTERVAL_S): if a worker dies
        later, no step before it is repeated.
        """
        import ray.train

        directory = ray.train.Checkpoint.from_directory(checkpoint) if checkpoint else None
        ray.train.report(metrics or {}, checkpoint=directory)
        ray.train.get_all_reported_checkpoints(consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED)

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        """Directory of the last checkpoint of this run, copied to this machine; None at its start."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as directory:
            yield Path(directory)


def train_worker(payload: dict[str, Any]) -> None:
    """Entry point of each Ray worker; `payload` holds the job as JSON and the driver's queue."""
    redact_process()
    job = TrainingJob.model_validate(payload["job"])
    context = RayContext()
    queue = payload["queue"]

    def tell(event: str, metrics: Metrics) -> None:
        import ray

        sent = queue.actor.put_nowait_batch.remote([(event, metrics)])
        if event != "step":  # steps do not wait; their messages arrive before those of the epoch all the same
            ray.get(sent)

    train_rank(job, context, tell if queue is not None and context.rank == 0 else None)


def make_trainer(job: TrainingJob, *, name: str, storage: str, queue: Any = None, callbacks: Sequence[Any] = ()) -> Any:
    """Ray's trainer for a job.

    Args:
        job: model, store and training settings.
        name: of the run.
        storage: of checkpoints.
        queue: receives the events of workers, or None.
        callbacks: of Ray Train.
    """
    import ray.train
    from ray.train.torch import TorchTrainer

    workers, least = job.train.num_workers, _least_workers(job)
    use_gpu = _use_gpu(job)
    return TorchTrainer(
        train_worker,
        train_loop_config={"job": job.model_dump(mode="json"), "queue": queue},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers if least == workers else (least, workers),
            use_gpu=use_gpu,
            resources_per_worker=None if use_gpu else {"CPU": threads_per_worker(job)},
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage_path(storage),
            callbacks=list(callbacks),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=job.train.max_failures, controller_failure_limit=2),
        ),
    )


def _least_workers(job: TrainingJob) -> int:
    return job.train.min_workers or job.train.num_workers


def _use_gpu(job: TrainingJob) -> bool:
    import ray

    return bool(job.train.use_gpu) and (job.train.use_gpu is True or ray.cluster_resources().get("GPU", 0) > 0)


def _check_room(job: TrainingJob) -> None:
    """Checks that Ray has room for the workers; on a cluster, where nodes may still join, it only logs a warning.

    Raises:
        ValueError: a Ray of this machine alone is too small.
    """
    import ray

    unit, each = ("GPU", 1) if _use_gpu(job) else ("CPU", threads_per_worker(job))
    held, needed = ray.cluster_resources().get(unit, 0), _least_workers(job) * each
    if needed <= held:
        return
    message = f"{counted(_least_workers(job), 'worker')}: {counted(needed, unit)} needed, and Ray has {held:.0f}"
    if not os.environ.get("RAY_ADDRESS"):
        raise ValueError(f"{message}: lower train.num_workers or train.threads")
    logger.warning("%s: waiting for more nodes", message)


def _train_with_ray(job: TrainingJob, *, name: str, storage: str, target: Path, listener: Listener | None) -> Trained:
    with ray_session():
        import ray.train

        _check_room(job)
        remove_half_written(storage, name)
        queue = _queue_beside_driver() if listener else None
        trainer = make_trainer(job, name=name, storage=storage, queue=queue)
        with _listening(queue, listener):
            try:
                result = trainer.fit()
            except ray.train.TrainingFailedError as error:
                raise _plain_error(error) from error
            except SystemExit as error:
                raise KeyboardInterrupt from error  # Ray converts Ctrl-C to SystemExit
        with result.checkpoint.as_directory() as directory:
            return take_best(Path(directory), target)


def _queue_beside_driver() -> Any:
    """Queue from workers to the driver, on the driver's own node, so that it survives the loss of any other."""
    import ray
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


def _plain_error(error: Exception) -> Exception:
    """Error of the first worker that failed: a ValueError with its own message, or a RuntimeError that quotes it."""
    failures = getattr(error, "worker_failures", {}) or {}
    causes = [getattr(failure, "cause", None) or failure for failure in failures.values()] or [error]
    first = causes[0]
    text = str(first).strip().splitlines()
    message = text[-1] if text else type(first).__name__
    return ValueError(message) if isinstance(first, ValueError) else RuntimeError(f"training failed: {message}")


@contextmanager
def _listening(queue: Any, listener: Listener | None) -> Iterator[None]:
    """Forwards events from the queue to the listener, from a thread, while the driver waits."""
    if queue is None or listener is None:
        yield
        return
    import ray

    stop = threading.Event()

    def drain() -> None:
        with suppress(ray.exceptions.RayError):  # the queue is lost with Ray; the driver raises that error
            while size := queue.qsize():
                for event, metrics in queue.get_nowait_batch(size):
                    listener(event, metrics)

    def follow() -> None:
        while not stop.wait(0.3):
            drain()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        drain()


def has_checkpoint(job: TrainingJob, *, name: str, storage: str) -> bool:
    """Whether a run has left a checkpoint, with Ray or without; `train` says which of them can resume it.

    Raises:
        OSError: the storage does not answer.
    """
    return any(_began(name, storage, with_ray=with_ray) for with_ray in (False, True))


def _began(name: str, storage: str, *, with_ray: bool) -> bool:
    if not with_ray:
        return any((Path(storage) / name / part).is_dir() for part in ("last", "last.old"))
    try:
        size_and_tag(f"{storage}/{name}/{SNAPSHOT}")
    except FileNotFoundError:
        return False
    return True


def finished_checkpoint(job: TrainingJob, *, name: str, storage: str) -> Path | None:
    """Last checkpoint of a run that has trained all epochs; None for others, and where the storage is not a folder."""
    if is_remote(storage):
        return None
    folder = Path(storage) / name
    for with_ray in (job.train.num_workers > 0, job.train.num_workers == 0):
        try:
            last = "last"
            if with_ray:
                last = json.loads((folder / SNAPSHOT).read_text())["latest_checkpoint_result"]["checkpoint_dir_name"]
            epochs = len(read_training_state(folder / last)["history"])
        except (OSError, ValueError, KeyError, TypeError):  # there is none, or a kill left it half written
            continue
        if epochs >= job.train.epochs:
            return folder / last
    return None


def take_best(checkpoint: Path, target: Path) -> Trained:
    """Finished training with its best model, copied from a training checkpoint to `target`."""
    state = read_training_state(checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(checkpoint / "best", new)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    return Trained(target, state["best"], state["history"])

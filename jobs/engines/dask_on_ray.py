"""Dask's scheduler and workers hosted in actors of a Ray cluster: `prepare.dask.scheduler: ray`.

This runs an unmodified Dask cluster inside Ray actors, with Dask's retries: a worker that dies loses only its current
shard. A supervisor in this process starts a replacement. Scheduler and workers communicate over TLS with keys made for
this run and distributed by Ray. Only users of the Ray cluster can connect.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pydantic import Field

from cubeprep.cluster import ClusterError, private_scratch
from cubeprep.config import Config
from cubeprep.redact import redact_process

logger = logging.getLogger(__name__)

START_SECONDS = 120
LOOK_SECONDS = 1.0


class DaskOnRayConfig(Config):
    """The workers that `prepare.dask.scheduler: ray` starts."""

    num_workers: int | None = Field(None, ge=1, description="Dask workers; default: as many as the cluster's CPUs hold")
    threads: int = Field(1, ge=1, description="Shards that a worker makes at once")
    cpus: float = Field(1.0, gt=0, description="CPUs that Ray reserves for each worker")


class SchedulerActor:
    """Dask's scheduler, in the event loop of a Ray actor."""

    async def start(self, security: Any) -> str:
        """Starts the scheduler on this node; returns its address."""
        from distributed import Scheduler

        redact_process()
        self._scratch = ExitStack()
        self._scratch.enter_context(private_scratch())
        self._scheduler = await Scheduler(host=_node_address(), security=security, dashboard=False)
        return str(self._scheduler.address)

    async def stop(self) -> None:
        """Closes the scheduler and thereby the workers."""
        await self._scheduler.close()
        self._scratch.close()


class WorkerActor:
    """One Dask worker in a Ray actor."""

    async def run(self, address: str, threads: int, security: Any) -> None:
        """Starts the worker on this node and returns when it has ended."""
        from distributed import Worker

        redact_process()
        with private_scratch():
            worker = await Worker(address, nthreads=threads, host=_node_address(), security=security, dashboard=False)
            await worker.finished()


@contextmanager
def dask_on_ray(config: DaskOnRayConfig) -> Iterator[str]:
    """Address of a Dask scheduler that runs for the duration of the block, on the Ray of RAY_ADDRESS or a local one.

    Raises:
        ClusterError: an actor did not start in time.
    """
    import dask
    from distributed.security import Security

    from modeling.ray_session import ray_session

    with ray_session():
        import ray  # only here: it reads the session's token when it is imported

        security = Security.temporary()
        scheduler = ray.remote(num_cpus=0)(SchedulerActor).remote()
        address = str(_first(scheduler.start.remote(security)))
        supervisor = Supervisor(config, address, security)
        try:
            # The client that cubeprep creates finds its keys here.
            with dask.config.set(_client_settings(security)):
                supervisor.start()
                yield address
        finally:
            supervisor.stop()
            _first(scheduler.stop.remote())
            ray.kill(scheduler)


class Supervisor:
    """Thread that keeps the workers running until it is stopped."""

    def __init__(self, config: DaskOnRayConfig, address: str, security: Any) -> None:
        import ray

        self._config, self._address, self._security = config, address, security
        self._actor_class: Any = ray.remote(num_cpus=config.cpus, max_restarts=0)(WorkerActor)
        self._running: dict[Any, Any] = {}  # actor by its pending run
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Starts the workers; those without free CPUs start as soon as the cluster has room."""
        import ray

        cpus = ray.cluster_resources().get("CPU", 1)
        for _ in range(self._config.num_workers or max(1, int(cpus / self._config.cpus))):
            self._start_worker()
        self._thread.start()

    def stop(self) -> None:
        """Stops the supervision and the workers."""
        import ray

        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for actor in self._running.values():
            ray.kill(actor)

    def _start_worker(self) -> None:
        actor = self._actor_class.remote()
        self._running[actor.run.remote(self._address, self._config.threads, self._security)] = actor

    def _watch(self) -> None:
        import ray

        while not self._stopping.wait(LOOK_SECONDS):
            ended, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
            for run in ended:
                ray.kill(self._running.pop(run))
                logger.warning("a Dask worker on Ray ended (%s); starting another", _why(run))
                self._start_worker()


def _client_settings(security: Any) -> dict[str, Any]:
    return {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": security.tls_ca_file,
        "distributed.comm.tls.client.cert": security.tls_client_cert,
        "distributed.comm.tls.client.key": security.tls_client_key,
    }


def _first(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference, timeout=START_SECONDS)
    except ray.exceptions.RayError as error:
        raise ClusterError(f"Dask on Ray: {type(error).__name__}: {str(error).strip().splitlines()[-1]}") from error


def _why(run: Any) -> str:
    import ray

    try:
        ray.get(run)
    except ray.exceptions.RayError as error:
        return type(error).__name__
    return "it closed"


def _node_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())

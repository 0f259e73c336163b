"""Dask's scheduler and workers hosted in actors of a Ray cluster: `prepare.dask.scheduler: ray`.

It is Dask as it is, on the machines that Ray has: retries, and a worker that dies loses nothing but its last shard. A
supervisor in this process starts another in its place. Scheduler and workers talk TLS with keys made for this run and
handed over by Ray, so whoever may not use the Ray cluster may not use this one.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from cubeprep.cluster import ClusterError
from cubeprep.config import Config

logger = logging.getLogger(__name__)

START_SECONDS = 120
LOOK_SECONDS = 1.0


class DaskOnRayConfig(Config):
    """The workers that `prepare.dask.scheduler: ray` starts."""

    num_workers: int | None = Field(None, ge=1, description="Default: as many as the cluster's CPUs hold")
    threads: int = Field(1, ge=1, description="Shards that a worker makes at a time")
    cpus: float = Field(1.0, gt=0, description="CPUs that Ray reserves for a worker")


class SchedulerActor:
    """Hosts Dask's scheduler in the event loop of an actor."""

    async def start(self, security: Any) -> str:
        """Starts it on this node; returns its address."""
        from distributed import Scheduler

        self._scheduler = await Scheduler(host=_node_address(), security=security, dashboard=False)
        return str(self._scheduler.address)

    async def stop(self) -> None:
        """Closes it, and with it the workers."""
        await self._scheduler.close()


class WorkerActor:
    """Hosts one Dask worker."""

    async def run(self, address: str, threads: int, security: Any) -> None:
        """Starts it on this node and returns when it has ended."""
        from distributed import Worker

        worker = await Worker(address, nthreads=threads, host=_node_address(), security=security, dashboard=False)
        await worker.finished()


@contextmanager
def dask_on_ray(config: DaskOnRayConfig) -> Iterator[str]:
    """The address of a Dask scheduler on the Ray cluster of RAY_ADDRESS, or on a Ray started here, for the block.

    Raises:
        ClusterError: no actor could be started in time.
    """
    import dask
    import ray
    from distributed.security import Security

    from modeling.ray_session import ray_session

    with ray_session():
        security = Security.temporary()
        scheduler = ray.remote(num_cpus=0)(SchedulerActor).remote()
        address = str(_first(scheduler.start.remote(security)))
        supervisor = Supervisor(config, address, security)
        try:
            # The client that cubeprep makes of the address finds its keys here.
            with dask.config.set(_client_settings(security)):
                supervisor.start()
                yield address
        finally:
            supervisor.stop()
            _first(scheduler.stop.remote())
            ray.kill(scheduler)


class Supervisor:
    """Keeps the workers running, from a thread, until it is stopped."""

    def __init__(self, config: DaskOnRayConfig, address: str, security: Any) -> None:
        import ray

        self._config, self._address, self._security = config, address, security
        self._actor_class: Any = ray.remote(num_cpus=config.cpus, max_restarts=0)(WorkerActor)
        self._running: dict[Any, Any] = {}  # the actor of each run that is under way
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Starts the workers; those that the cluster has no room for yet come when it has."""
        import ray

        cpus = ray.cluster_resources().get("CPU", 1)
        for _ in range(self._config.num_workers or max(1, int(cpus / self._config.cpus))):
            self._start_worker()
        self._thread.start()

    def stop(self) -> None:
        """Ends supervision and workers."""
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
                logger.warning("a Dask worker on Ray ended (%s); another is started", _why(run))
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

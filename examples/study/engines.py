"""Many runs: one after another, on all cores of this machine, or on a cluster with Ray.

An engine takes runs and yields, as they end, (run, result) or (run, the error that stopped it). The
numbers of a run depend only on its settings: on one kind of processor all engines give the same.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from pathlib import Path

from study import SETTINGS
from study.plugin import train_with
from study.training import Run, train

MOST = 61  # processes, on Windows
Ended = Iterator[tuple[Run, dict | Exception]]


def one_by_one(runs: Iterable[Run], data: Path | None, **_) -> Ended:
    for run in runs:
        try:
            yield run, train(run, data)
        except Exception as error:  # one run that fails must not cost the others
            yield run, error


def on_cores(
    runs: Iterable[Run],
    data: Path | None,
    workers: int | None = None,
    plugin: Path | None = None,
    **_,
) -> Ended:
    """Runs in separate processes. They are spawned, because a forked TensorFlow hangs."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers or os.cpu_count(), MOST), spawn, end_with_parent)
    try:
        started = {pool.submit(train_with, plugin, run, data): run for run in runs}
        for future in as_completed(started):
            yield started[future], future.exception() or future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Ends this process when its parent process ends, even if that is killed."""
    gone = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: (wait([gone]), os._exit(1)), daemon=True).start()


def on_ray(
    runs: Iterable[Run],
    data: Path | None,
    address: str | None = None,
    plugin: Path | None = None,
    **_,
) -> Ended:  # pragma: no cover - in processes of Ray's
    """Runs on a Ray cluster, one core for each run; starts a local one if `address` is None.

    Every node needs the package installed, and `data` and `plugin` at the same path. Ray sends it
    these modules.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'The engine "ray" needs the package ray, which is not installed. '
            'Install it with: pip install ".[cluster]"'
        ) from error
    if not ray.is_initialized():
        sent = {"working_dir": str(Path(__file__).parents[1]), "env_vars": SETTINGS}
        ray.init(address or "local", runtime_env=sent, log_to_driver=False)
    remote = ray.remote(num_cpus=1, max_retries=2)(train_with)
    started = {remote.remote(plugin, run, data): run for run in runs}
    while started:
        (ended,), _ = ray.wait(list(started))
        run = started.pop(ended)
        try:
            yield run, ray.get(ended)
        except ray.exceptions.RayError as error:
            yield run, error


ENGINES = {"here": one_by_one, "cores": on_cores, "ray": on_ray}

"""Worker processes by joblib, and what they owe to the one that started them: to leave Ctrl-C to it, to end with it."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import threading
import time
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joblib import Parallel


def active_backend():
    """joblib's backend that is set."""
    from joblib.parallel import get_active_backend  # here, so that importing the package does not wait for joblib

    return get_active_backend()[0]


def local(backend) -> bool:
    """Whether a backend is joblib's own: processes on this machine's cores."""
    return type(backend).__name__ == "LokyBackend"


def workers(jobs: int, threads: int | None, **options) -> Parallel:
    """joblib's ``Parallel`` on the backend that is set; on its own so many threads are for each process."""
    from joblib import Parallel, parallel_config

    here = local(active_backend())
    with parallel_config("loky", inner_max_num_threads=threads) if here else contextlib.nullcontext():
        return Parallel(jobs, **options)


def check_jobs(jobs: int) -> None:
    """Raise ValueError where ``jobs`` is no number of processes."""
    if isinstance(jobs, bool) or not isinstance(jobs, int) or not jobs:
        raise ValueError(f"jobs={jobs!r} must be a whole number but 0; −1 is one for each core")


def close_quietly(outcomes) -> None:
    """End what makes them, where they are not a list by now, without joblib's warning on results nobody fetched."""
    if hasattr(outcomes, "close"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes.close()


def this_process() -> tuple[int, str]:
    """Number and machine of this process."""
    return os.getpid(), platform.node()


def work_for(parent: tuple[int, str]) -> None:
    """Called in a worker, or in the parent itself, where it changes nothing; ``parent`` is its :func:`this_process`."""
    if this_process() != parent and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    if parent[1] == platform.node():
        _end_with(parent[0])


def _end_with(parent: int):
    """End this worker once its parent is gone, killed perhaps: nobody else would."""

    def watch():
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    if os.getppid() == parent and not any(thread.name == "reconlaw-watch" for thread in threading.enumerate()):
        threading.Thread(target=watch, name="reconlaw-watch", daemon=True).start()

"""What a worker process owes to the one that started it: to leave Ctrl-C to it, and to end with it."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time


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

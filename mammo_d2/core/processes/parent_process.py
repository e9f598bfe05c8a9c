"""Processes that end with the process that started them, however that came: a killed parent cannot tell them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

#: Environment variable with the number of the process that started a command and waits for it.
STARTER_VARIABLE = "MAMMO_D2_STARTED_BY"
# Seconds that a command has to save what it has done.
_GRACE = 6.0


def end_with_parent() -> None:
    """End this worker process when its parent ends.

    Without this, workers of a killed run go on with what is queued and then wait for ever. Called once at a worker's
    start; does nothing in a process that ``multiprocessing`` did not start.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        # Not sys.exit: other threads of this process would go on. Files are written atomically.
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


def stop_with_starter(interval: float = 0.5, grace: float = _GRACE) -> None:
    """Stop this command when the process that started it ends; does nothing where a person started it.

    Without this, the trainings of a killed search go on for hours, unseen. It is asked to stop by SIGTERM, on which a
    training saves a checkpoint, and ended if it has not done so after a while.

    Args:
        interval: seconds between two looks.
        grace: seconds from SIGTERM to the end.
    """
    starter = os.environ.pop(STARTER_VARIABLE, "")
    if not starter.isdigit():
        return

    def wait() -> None:
        while os.getppid() == int(starter):
            time.sleep(interval)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, name="stop-with-starter", daemon=True).start()

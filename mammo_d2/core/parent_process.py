"""Worker processes that end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this worker process when its parent ends, however that came: a killed parent cannot tell it.

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

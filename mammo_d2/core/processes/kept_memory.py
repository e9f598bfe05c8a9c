"""Memory that is freed stays with the process: a training step needs the same again, and fresh pages cost time.

glibc gives large blocks back to the system as soon as they are freed and asks for new ones; the system then clears
every page at its first use. A step of a convolutional network frees and needs again gigabytes.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping

# Parameters of mallopt (malloc.h), and what they are set to: nothing is given back, every block comes from the heap.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_SETTINGS = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}
#: Set to 0 to give memory back as it is freed.
SWITCH = "MAMMO_D2_KEEP_MEMORY"
#: Set by people who have decided how memory is allocated: any of glibc's variables, or another allocator.
BY_HAND = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory(environ: Mapping[str, str] = os.environ) -> bool:
    """Keep what this process frees, for its next allocation; what it computes does not change.

    The process stays as large as it once was, and becomes a little larger, as blocks of other sizes lie between. Does
    nothing where glibc is not the C library, where ``SWITCH`` is "0" in the environment, or where that has a variable
    of ``BY_HAND``.

    Returns:
        Whether it is done.
    """
    if (
        environ.get(SWITCH) == "0"
        or platform.libc_ver()[0] != "glibc"
        or any(name.startswith(BY_HAND) for name in environ)
    ):
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(name, value) == 1 for name, value in _SETTINGS.items())

"""Memory that one layer frees is kept for the next: glibc would hand it to the kernel, which clears it every time."""

from __future__ import annotations

import os
import sys

__all__ = ["keep_freed_memory"]

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
SETTINGS = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 256 * 2**20}


def keep_freed_memory() -> bool:
    """Ask glibc to keep what this process frees; whether it was asked.

    For a process of our own, at its start: on the CPU a refinement then takes about 40 % less time, with the same
    bytes. Nothing is done without glibc, nor where MALLOC_… variables say what is wanted.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, OSError, AttributeError):
        return False
    return all([mallopt(option, value) == 1 for option, value in SETTINGS.items()])

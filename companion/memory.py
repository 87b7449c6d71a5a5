"""Keeps the process small and steady: freed memory goes back, and what stays is not looked through.

Knows knobs of one C library and of Python's garbage collector. It does not know who uses memory, or
how much.
"""

from __future__ import annotations

import ctypes
import gc
import sys

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_ARENAS = 2
_THRESHOLD = 128 * 1024


def give_back_memory() -> None:
    """Few heaps for all threads, and large blocks of their own; harmless where there is no glibc.

    By default each thread has a heap of its own, up to eight per core, and setting either
    threshold keeps glibc from raising both when a large block is freed: together about 60 MB
    with 10,000 passages. Call it before threads are started.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_TRIM_THRESHOLD, _THRESHOLD)
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)


def collect_from_now_on() -> None:
    """End the start, in which nothing was collected: what is there now stays and is never looked through.

    Without that each full collection holds up all threads for as long as half a million objects take.
    Harmless where collecting was never turned off.
    """
    if gc.isenabled():
        return
    gc.collect()
    gc.freeze()
    gc.enable()

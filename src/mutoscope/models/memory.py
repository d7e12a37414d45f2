"""How a process holds memory: large blocks are kept for the next layer."""

import ctypes
import sys

__all__ = ["keep_memory"]

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h


def keep_memory() -> bool:
    """Tell the allocator to keep large blocks: without it, the temporaries of each layer are mapped and
    cleared anew, which is half of the time of a film of large pictures on a CPU.

    It changes the whole process, so a command asks for it, and no import does. Only glibc knows the call;
    says whether it worked.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, 2**30) and mallopt(TRIM_THRESHOLD, 2**31 - 1))

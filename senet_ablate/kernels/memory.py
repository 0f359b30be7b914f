"""Freed memory kept for the next step of training, where the C library lets a program ask for it."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep what is freed, for the rest of this process; whether the C library knows how (glibc does).

    glibc returns large feature maps to the system as soon as they are freed, and the next step gets them back page by
    page, each of them cleared first: up to a third of a training step on 32-pixel images.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, NEVER) and mallopt(M_MMAP_MAX, 0))

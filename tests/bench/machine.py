"""What the machine itself adds to a program that works once a second."""

import time
from typing import Final

_PAGE_BYTES: Final = 4096
_PAGES: Final = 4096
_REST_S: Final = 1.0


def rested_page_s() -> float:
    """What the first touch of a page costs more after a second of rest than right after another touch.

    Caches and page tables forget what rests, most of all where memory is virtual twice: microseconds for each
    page were seen there. Who works once a second pays that for each page that it touches.
    """
    memory = bytearray(_PAGES * _PAGE_BYTES)
    _touch(memory)
    at_once_s = _touch(memory)
    time.sleep(_REST_S)
    return max(0.0, _touch(memory) - at_once_s)


def _touch(memory: bytearray) -> float:
    """Seconds for a page, as one thread sees them."""
    began_ns = time.thread_time_ns()
    for place in range(0, len(memory), _PAGE_BYTES):
        memory[place] = 1
    return (time.thread_time_ns() - began_ns) / _PAGES / 1e9

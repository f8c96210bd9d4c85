"""Names of users by their number, where the operator has switched them on.

The system's own database of users is asked (getpwuid(3)), which may stand behind LDAP and take seconds: so in
a thread of its own, and whoever asks is never kept waiting.
"""

import pwd
import queue
import threading
from collections.abc import Callable
from typing import Final

MAX_KNOWN: Final = 10_000
"""Users that are remembered; of more, those that were asked for first are asked for again."""


class UserNames:
    """Names of users. One thread asks; nothing blocks it.

    Args:
        lookup: gives the name of a uid; may block.
    """

    def __init__(self, lookup: Callable[[int], str] | None = None) -> None:
        self._lookup = lookup or by_system
        self._known: dict[int, str] = {}
        self._asked: set[int] = set()
        self._wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def of(self, uid: int) -> str | None:
        """The name of a user, or the number where nobody has a name for it; None while that is looked up."""
        while not self._found.empty():
            found, name = self._found.get()
            self._asked.discard(found)
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[found] = name
        if uid not in self._known and uid not in self._asked:
            self._asked.add(uid)
            self._wanted.put(uid)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="user-names", daemon=True)
                self._thread.start()
        return self._known.get(uid)

    def _work(self) -> None:
        while True:
            uid = self._wanted.get()
            self._found.put((uid, self._lookup(uid)))


def by_system(uid: int) -> str:
    """What the system's database of users says, or the number. May block.

    Args:
        uid: as this process's user namespace counts.
    """
    try:
        return pwd.getpwuid(uid).pw_name or str(uid)
    except (KeyError, OSError, OverflowError, ValueError):
        return str(uid)

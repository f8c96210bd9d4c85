"""SQLite at the boundary: how it is opened, and what its errors mean."""

import sqlite3
from pathlib import Path
from typing import Final, Literal

BUSY_S: Final = 0.5
"""How long a commit waits for someone else's lock, such as a shell in the database; less than a tick."""

WAL_LIMIT_BYTES: Final = 4 << 20
"""The -wal file is cut back to this once its commits are in the database."""

CIRCUMSTANCES: Final = {
    sqlite3.SQLITE_PERM: "not permitted",
    sqlite3.SQLITE_BUSY: "another program holds the database",
    sqlite3.SQLITE_LOCKED: "another program holds a table of the database",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_READONLY: "the database has become read-only",
    sqlite3.SQLITE_INTERRUPT: "interrupted",
    sqlite3.SQLITE_IOERR: "the disk failed, or refused to let a file grow",
    sqlite3.SQLITE_FULL: "no space left on the disk",
    sqlite3.SQLITE_CANTOPEN: "a file cannot be opened",
    sqlite3.SQLITE_PROTOCOL: "the locks of this file system do not work",
    sqlite3.SQLITE_NOLFS: "the file system cannot hold a file this large",
    sqlite3.SQLITE_AUTH: "not permitted",
}
"""Result codes (sqlite.org/rescode.html) that accuse the world around the file, in words."""

CONTENTS: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # a table or column is missing
        sqlite3.SQLITE_INTERNAL,
        sqlite3.SQLITE_ABORT,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTFOUND,
        sqlite3.SQLITE_EMPTY,
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_NOTADB,
    }
)
"""Result codes that accuse what is in the file."""


def connect(path: Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    """Open a database file; transactions are begun by hand.

    The connection may move to another thread, but only one may use it at a time.

    Raises:
        sqlite3.Error: it does not exist or cannot be opened. What is in it is looked at later.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_S,
    )


def prepare_writing(db: sqlite3.Connection) -> None:
    """Set up a connection that commits: write-ahead log, and no fsync but where `durable` asks for it.

    Raises:
        sqlite3.Error: the file system cannot do it, or the file is no database.
    """
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        # SQLite refuses in silence where it cannot share memory between processes, as on NFS.
        raise sqlite3.OperationalError(
            f"the file system cannot hold a write-ahead log (SQLite offers {mode!r})"
        )
    db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    durable(db, False)


def durable(db: sqlite3.Connection, wanted: bool) -> None:
    """Whether the next commits, and with them all before, are on the disk when COMMIT returns.

    FULL syncs the write-ahead log at each commit; NORMAL only before a checkpoint, so a power loss may
    take the newest commits but never damages the file (sqlite.org/pragma.html#pragma_synchronous).
    """
    db.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")


def accuses_contents(error: BaseException) -> bool:
    """Whether the file itself is bad, rather than the world around it. Unknown codes accuse the world."""
    if isinstance(error, UnicodeDecodeError):
        return True  # SQLite quotes a damaged schema in its message, and CPython cannot decode that
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "Could not decode" in str(error)  # a text that is not UTF-8: raised by CPython, without a code
    if code == sqlite3.SQLITE_READONLY:
        # The files were seen to be writable, so it is a damaged header that says so (write version above 2).
        return True
    return code & 0xFF in CONTENTS


def in_words(error: Exception) -> str:
    """What went wrong, for the operator."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return f"{CIRCUMSTANCES[code]} ({error})" if code in CIRCUMSTANCES else str(error)

"""The journal itself: opened, committed to at each tick, made durable every few seconds, closed cleanly."""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final, Self

from wattspan.errors import UnreachableError
from wattspan.journal import database, folder, history, outbox, periods, schema
from wattspan.journal import figures as grid_figures
from wattspan.journal.folder import FolderLock
from wattspan.journal.history import DEFAULT_RETENTION, Retention
from wattspan.journal.mark import Mark, MarkFile
from wattspan.journal.opening import take_up
from wattspan.journal.records import Account, Baseline, JournalError, KeptRun, Restored
from wattspan.journal.schema import Standing
from wattspan.model import CounterKey, Intensity
from wattspan.runs import SpanRecord
from wattspan.units import NS_PER_S

logger = logging.getLogger(__name__)

_REFUSALS: Final = (sqlite3.Error, OSError, OverflowError, ValueError)
"""What a commit may fail with: the disk, or a row that does not fit."""

TRIM_EVERY_NS: Final = 3600 * NS_PER_S
"""How often figures of the grid are let go of that are too many."""


class Journal:
    """The open journal. One thread at a time may use it; the one that samples owns it.

    Attributes:
        restored: what it held when it was opened.
    """

    def __init__(
        self,
        *,
        lock: FolderLock,
        mark: MarkFile,
        connection: sqlite3.Connection,
        standing: Standing,
        restored: Restored,
        wall_ns: Callable[[], int],
        retention: Retention,
    ) -> None:
        self.restored = restored
        self._lock = lock
        self._mark = mark
        self._connection: sqlite3.Connection | None = connection
        self._lineage = standing.lineage
        self._boot_id = standing.boot_id
        self._commits = standing.commits
        self._committed_wall_ns = standing.synced_wall_ns
        self._month_ns = range(0)  # the month whose start is known to be kept
        self._wall_ns = wall_ns
        self._retention = retention
        self._trimmed_wall_ns = 0
        self._path = folder.database(lock.folder)
        self._file = _identity(self._path)

    @classmethod
    def open(
        cls,
        state_dir: Path,
        boot_id: str,
        wall_ns: Callable[[], int] = time.time_ns,
        retention: Retention = DEFAULT_RETENTION,
    ) -> Self:
        """Lock the folder, and take up its journal or begin one. Blocks on the disk.

        When it returns, the disk says that no clean stop was made, so that a crash will be noticed.

        Args:
            state_dir: made with mode 0700 if it is missing.
            boot_id: /proc/sys/kernel/random/boot_id; empty when unknown, which equals no boot.
            wall_ns: CLOCK_REALTIME in nanoseconds, for names of files, times in texts and the age of runs.
            retention: how long runs are kept that have ended.

        Raises:
            UnreachableError: the folder is held by another daemon or cannot be used; a damaged or newer
                journal is no such case, it is set aside.
        """
        try:
            with contextlib.ExitStack() as undo:
                lock = FolderLock.take(state_dir)
                undo.callback(lock.release)
                mark = MarkFile.open(folder.mark(state_dir))
                undo.callback(mark.close)
                connection, standing, restored = take_up(state_dir, boot_id, mark.read(), wall_ns())
                undo.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise UnreachableError(
                f"the journal in {state_dir} cannot be opened: {database.in_words(error)}; "
                "mend that, or name another folder with --state.dir"
            ) from error
        mark.write(Mark(standing.commits, standing.lineage, boot_id))
        return cls(
            lock=lock,
            mark=mark,
            connection=connection,
            standing=standing,
            restored=restored,
            wall_ns=wall_ns,
            retention=retention,
        )

    def commit(
        self,
        accounts: Iterable[Account],
        baselines: Iterable[Baseline],
        *,
        spans: Iterable[SpanRecord] = (),
        delivered: Iterable[int] = (),
        runs: Iterable[KeptRun] = (),
        gone: Iterable[CounterKey] = (),
        figures: Iterable[Intensity] = (),
        wall_ns: int | None = None,
    ) -> int:
        """Keep the rows that changed, all or none.

        When it returns they survive the process; the machine's power loss they survive from the next `sync`.
        Takes well under a millisecond for 200 rows; waits up to `database.BUSY_S` for somebody's lock.

        Args:
            accounts, baselines: those that changed.
            spans: that have ended, for the outbox.
            delivered: ids of spans in the outbox that the collector has acknowledged.
            runs: that began, changed or ended, each over what was kept of the same attempt.
            gone: accounts that are over for good, such as those of a run that ended; not among `accounts`.
            figures: of the grid that have come or were revised, for the history that audits look at.
            wall_ns: of the tick that is committed, which says whose month it is; the clock's where not given.

        Returns:
            How many spans had to leave the outbox undelivered, because there was no room.

        Raises:
            JournalError: nothing was kept. Give the rows again; the next commit begins afresh.
        """
        kept, read = tuple(accounts), tuple((self._boot_id, baseline) for baseline in baselines)
        ended, acknowledged = tuple(spans), tuple(delivered)
        known, over, said = tuple(runs), tuple(gone), tuple(figures)
        now_wall_ns = self._wall_ns() if wall_ns is None else wall_ns
        try:
            with self._transaction() as db:
                if now_wall_ns not in self._month_ns:
                    periods.turn(db, now_wall_ns, self._committed_wall_ns)
                schema.write(db, kept, read)
                outbox.remove(db, acknowledged)
                dropped = outbox.write(db, ended)
                schema.forget(db, over)
                if any(run.record.ended_wall_ns is not None for run in known):
                    history.make_room(db, self._retention, self._wall_ns())
                closed = history.write(db, known)
                grid_figures.write(db, said, now_wall_ns)
                # Either way: a clock that was set back must not put it off.
                trims = bool(said) and abs(now_wall_ns - self._trimmed_wall_ns) >= TRIM_EVERY_NS
                if trims:
                    grid_figures.trim(db)
                # Not equality: a commit that failed in its last step may have been made all the same.
                made = db.execute(
                    "UPDATE meta SET commits = ?1 + 1 WHERE commits >= ?1", (self._commits,)
                ).rowcount
                if not made:
                    raise OSError("commits that were made are gone from it; restart wattspan")
        except JournalError as error:
            raise _naming_the_row(error, kept) from error.__cause__
        self._commits += 1
        self._committed_wall_ns = now_wall_ns
        if now_wall_ns not in self._month_ns:
            self._month_ns = range(*periods.bounds_of(periods.month_of(now_wall_ns)))
        if trims:
            self._trimmed_wall_ns = now_wall_ns
        self._mark.write(Mark(self._commits, self._lineage, self._boot_id))
        for entry in closed:
            # Whoever keeps the log elsewhere can tell a chain that was written anew from this one.
            logger.info(
                "journal: run %s, attempt %d, is closed: entry %d of the chain, head %s",
                entry.run_id,
                entry.attempt,
                entry.sequence,
                entry.hash,
            )
        return dropped

    def sync(self) -> None:
        """Make all commits survive a power loss, and let the write-ahead log start over. Blocks on the disk.

        Raises:
            JournalError: they may not survive it; the commits themselves stand.
        """
        with self._transaction(durable=True) as db:
            db.execute("UPDATE meta SET synced_wall_ns = ?", (self._wall_ns(),))
        with self._translated():
            # PASSIVE waits for nobody: while an export reads, the log starts over one sync later.
            self._connected().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self, clean: bool) -> None:
        """Give up files and lock. May be called twice.

        Args:
            clean: everything published is committed, and nothing more will be. Only then do counters
                go on after a reboot.

        Raises:
            JournalError: the clean stop could not be written, so a reboot will count as unclean.
        """
        try:
            if clean and self._lock.held:
                with self._transaction(durable=True) as db:
                    db.execute("UPDATE meta SET clean_stop = 1, synced_wall_ns = ?", (self._wall_ns(),))
        finally:
            self._disconnect()
            if self._lock.held:
                self._mark.close()
                self._lock.release()

    @contextlib.contextmanager
    def _transaction(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        with self._translated():
            db = self._connected()
            if durable:
                database.durable(db, True)
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
            if durable:  # and not told anew at each commit, which cost a tenth of it
                database.durable(db, False)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """After any failure the connection goes, and the transaction with it.

        SQLite rolls back by itself after some errors and not after others (sqlite.org/lang_transaction.html,
        section 3); the next commit is spared to know.
        """
        try:
            yield
        except BaseException as error:
            self._disconnect()
            if isinstance(error, _REFUSALS):
                raise JournalError(
                    f"the journal in {self._lock.folder} takes no commit: {database.in_words(error)}"
                ) from error
            raise

    def _connected(self) -> sqlite3.Connection:
        if _identity(self._path) != self._file:
            # SQLite would go on writing into the unlinked file, and a restart would find none of it.
            raise FileNotFoundError(
                f"{self._path.name} was removed or replaced; restart wattspan to begin anew"
            )
        if self._connection is None:
            connection = database.connect(self._path, "rw")
            self._connection = connection
            database.prepare_writing(connection)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _naming_the_row(error: JournalError, accounts: Iterable[Account]) -> JournalError:
    """The same error, with the account that no disk would take, if there is one."""
    for account in accounts:
        try:
            schema.account_of(asdict(account))
        except ValueError as refusal:
            return JournalError(f"{error}; account {account.quantity}{account.labels}: {refusal}")
    return error


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino

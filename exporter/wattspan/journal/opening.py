"""From a folder to a journal that can be gone on with: found, begun, or begun anew beside one set aside."""

import contextlib
import os
import sqlite3
import uuid
from dataclasses import replace
from pathlib import Path

from wattspan.journal import chain_of_runs, database, figures, folder, history, outbox, periods, schema
from wattspan.journal.mark import Mark
from wattspan.journal.records import Restored
from wattspan.journal.restart import resume
from wattspan.journal.schema import Contents, Standing, UnusableError


def take_up(
    state_dir: Path, boot_id: str, mark: Mark | None, now_wall_ns: int
) -> tuple[sqlite3.Connection, Standing, Restored]:
    """Take up the journal of a folder that the caller holds, whatever is there.

    Returns:
        The connection, set up to commit; how the journal stands now; and what to go on from.

    Raises:
        sqlite3.Error, OSError: the world around the journal is at fault; it is left as it is.
    """
    path = folder.database(state_dir)
    try:
        if path.exists():
            return _gone_on_with(path, boot_id, mark)
        if orphans := folder.orphans(state_dir):
            raise UnusableError("corrupt", f"{path.name} is missing, {orphans[0].name} is not")
    except UnusableError as error:
        kept = folder.set_aside(state_dir, error.why, now_wall_ns)
        notice = (
            f"the journal in {state_dir} cannot be used: {error.detail}; it is kept as {kept.name}, "
            "and a new one has begun: every counter starts from 0"
        )
        return _begun(path, boot_id, now_wall_ns, (notice,))
    if mark is None:
        return _begun(path, boot_id, now_wall_ns, ())
    notice = f"{path} is gone, though {mark.commits} commits were made to it: every counter starts from 0"
    return _begun(path, boot_id, now_wall_ns, (notice,))


def create(path: Path, contents: Contents) -> None:
    """Make a journal, complete or not at all: it is built beside its place and then renamed.

    Args:
        path: where no journal is.
        contents: what it starts out with.

    Raises:
        sqlite3.Error, OSError: the disk refuses; nothing is left behind under `path`.
    """
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder.FILE_MODE))
    try:
        with contextlib.closing(database.connect(draft, "rw")) as db:
            # A rollback journal in memory: one on the disk, left by a crash, would spoil the next draft.
            db.execute("PRAGMA journal_mode = MEMORY")
            database.durable(db, True)
            schema.migrate(db)
            db.execute("BEGIN IMMEDIATE")
            schema.begin(db, contents.standing)
            schema.write(db, contents.accounts, contents.baselines)
            outbox.write(db, contents.spans)
            history.restore(db, contents.runs)
            chain_of_runs.restore(db, contents.entries)
            figures.write(db, contents.figures, contents.standing.synced_wall_ns)
            periods.restore(db, contents.months)
            db.execute("COMMIT")
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder.sync_names(path.parent)


def _gone_on_with(
    path: Path, boot_id: str, mark: Mark | None
) -> tuple[sqlite3.Connection, Standing, Restored]:
    """Open a journal, and settle in one durable commit what goes on and what starts again.

    Raises:
        UnusableError: it is damaged or newer than this program; nothing was changed.
        sqlite3.Error: the world around it is at fault.
    """
    db = database.connect(path, "rw")
    try:
        schema.check(db)
        database.prepare_writing(db)
        schema.migrate(db)
        database.durable(db, True)
        db.execute("BEGIN IMMEDIATE")
        contents = schema.read(db)
        restored = replace(resume(contents, boot_id, mark), runs=history.active(db))
        schema.write(db, restored.accounts, ())
        if not restored.baselines:
            db.execute("DELETE FROM baseline")
        db.execute("UPDATE meta SET boot_id = ?, clean_stop = 0", (boot_id,))
        db.execute("COMMIT")
        database.durable(db, False)
    except BaseException as error:
        db.close()
        if database.accuses_contents(error):
            raise UnusableError("corrupt", str(error)) from error
        raise
    return db, replace(contents.standing, boot_id=boot_id, clean_stop=False), restored


def _begun(
    path: Path, boot_id: str, now_wall_ns: int, notices: tuple[str, ...]
) -> tuple[sqlite3.Connection, Standing, Restored]:
    standing = Standing(
        lineage=uuid.uuid4().hex,
        created_wall_ns=now_wall_ns,
        boot_id=boot_id,
        clean_stop=False,
        commits=0,
        synced_wall_ns=now_wall_ns,
    )
    create(path, Contents(standing, (), ()))
    db = database.connect(path, "rw")
    try:
        database.prepare_writing(db)
    except BaseException:
        db.close()
        raise
    return db, standing, Restored(fresh=True, notices=notices)

"""The rules of restarts: what counters go on, and which start again from 0."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from wattspan.journal.mark import Mark
from wattspan.journal.records import Restored
from wattspan.journal.schema import Contents
from wattspan.units import NS_PER_S

_BEHIND: Final = (
    "the journal has lost its newest commits (its -wal file was damaged or removed, or an older copy put "
    "back): every counter starts again from 0, totals go on from the last commit that is left"
)
_UNCLEAN: Final = (
    "the journal was left without a clean stop, and not in this boot: every counter starts again from 0, "
    "totals go on from the last commit on the disk, which held all of them at {synced}"
)
_NO_BOOT: Final = (
    "the boot's id cannot be read (sys/kernel/random/boot_id under --path.procfs): what was used while no "
    "daemon ran is not counted, because some of it may have been"
)


def resume(contents: Contents, boot_id: str, mark: Mark | None) -> Restored:
    """What to go on from.

    Counters go on where nothing can have been published beyond what the journal holds: after a clean stop,
    or within one boot, whose commits all survive.
    Otherwise they start again from 0, never from an older value, while their totals go on.
    A baseline of an unknown boot is dropped: taken for one of an earlier boot, all that its hardware has
    counted since that began would be charged at each start anew.

    Args:
        contents: the journal as found.
        boot_id: of the machine now; empty when unknown.
        mark: the newest commit known to have been made, if any.
    """
    standing = contents.standing
    same_boot = standing.boot_id == boot_id != ""
    behind = mark is not None and mark.lineage == standing.lineage and mark.commits > standing.commits
    accounts = contents.accounts
    baselines = tuple((read_in, b) for read_in, b in contents.baselines if read_in and boot_id)
    notices: tuple[str, ...] = ()
    if behind or not (same_boot or standing.clean_stop):
        accounts = tuple(replace(account, base=account.total, released=False) for account in accounts)
        notices = (_BEHIND if behind else _UNCLEAN.format(synced=_utc(standing.synced_wall_ns)),)
    if behind and mark is not None and mark.boot_id == boot_id:
        # Newer readings than these were published in this boot: their energy would be counted twice.
        baselines = ()
    if contents.baselines and not boot_id:
        notices += (_NO_BOOT,)
    return Restored(
        accounts=accounts,
        baselines=tuple(replace(b, same_boot=read_in == boot_id) for read_in, b in baselines),
        same_boot=same_boot,
        clean_stop=standing.clean_stop,
        notices=notices,
    )


def _utc(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

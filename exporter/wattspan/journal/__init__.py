"""journal: counters to disk before anybody sees them. The only place that writes to it.

In come the accounts and baselines that a tick changed; out come, at the next start, those to go on from.
Only what `Journal.commit` returned for is published, so no counter ever resumes below what a scrape saw:
it goes on, or it starts again from exactly 0.

``books`` turn ticks into accounts and committed accounts into the view that ``board`` pins up;
``records`` travel, ``store`` is the open journal, ``opening`` finds or begins one,
``restart`` has the rules of what goes on after a stop,
``schema`` the tables, ``database`` SQLite's ways and errors, ``folder`` the state directory and its lock,
``mark`` finds commits that the disk has lost, ``outbox`` keeps spans until a collector has them,
``history`` keeps the runs, with ``json_records`` for their fields, ``portable`` is export and import.
Nothing here prices or publishes, and a journal that cannot be read is never deleted: it is set aside.
"""

from wattspan.journal.folder import holder
from wattspan.journal.records import Account, Baseline, JournalError, KeptRun, Restored
from wattspan.journal.store import Journal

__all__ = ["Account", "Baseline", "Journal", "JournalError", "KeptRun", "Restored", "holder"]

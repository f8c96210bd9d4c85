"""client: what user code imports, and what ``wattspan run`` is made of.

In comes what a training job says of itself: that it begins, how far it is, its phases, how it ended.
Out go HTTP requests to the daemon on this node, and a summary of what the daemon metered.

It meters nothing, and it never harms the job: no call of user code raises, waits for the daemon or
does input or output; all of that is done by one thread per run, which loses what it must and says so once.
Only the end of a run waits, for a moment, so that the summary can be read.
What user code imports takes the standard library and the rules of run ids, nothing else; `green` alone,
which ``wattspan run --wait-for-green`` waits by, reads forecasts with the room `carbon`.
"""

from wattspan.client.summary import Missing, Summary
from wattspan.client.tracking import Phase, Run, track

__all__ = ["Missing", "Phase", "Run", "Summary", "track"]

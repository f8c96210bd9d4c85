"""ledger: snapshots in, charges out: how much energy each device used, and whose it was.

The law: for each GPU and interval, runs + other pods + idle + unattributed = the device's energy,
as whole microjoules, exactly.
`deltas` is the arithmetic of two readings, `attribution` splits, `meters` remember one device each,
`ledger` walks through a snapshot.
This room knows no carbon, no disk and no metric names; it never reads hardware.
"""

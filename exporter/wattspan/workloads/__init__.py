"""workloads: who holds what: process -> container -> pod -> job -> run.

Empty until runs are attributed; the ledger's door for it is the `holders` argument of
`wattspan.ledger.attribution.split`.
"""

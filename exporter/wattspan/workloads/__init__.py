"""workloads: who holds what: process -> container -> pod -> job -> run.

Snapshots and the world around them in, `Holdings` out; runs begin and end here.
``resolver`` walks from a GPU's processes and allocations to their holders, ``registry`` keeps the runs,
``processes`` and ``cgroups`` read procfs, ``watch`` asks Kubernetes from a thread of its own,
``markers`` and ``slurm`` know the marks that jobs leave.
This room splits no energy and knows no metric; reading a process never changes it.
"""

"""Everything at once on one machine: ``make stack``, or ``python -m dashboards.stack``.

Comes in: ports, a folder.
Goes out: a simulated exporter, budgets as a hub will publish them, Prometheus with our rules, Alertmanager
with the routing example, and Grafana with the dashboards, where there is one.
It is for looking at; it refuses to listen on anything but loopback and leaves nothing running.
`compose.yaml` beside this file does the same where Docker runs.
"""

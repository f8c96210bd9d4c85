"""Grafana dashboards: the JSON that Grafana loads and, beside it, what builds it.

``python -m dashboards`` writes the JSON anew, ``python -m dashboards --check`` says whether it is as built.
One module per dashboard; `panels` has one function for each kind of panel, `frame` what every dashboard has,
`look` units and colours, `queries` shared PromQL, `foreign` the metrics of others.
Nothing here knows the exporter: the names are those of the catalogue and of ``alerts/``, and a test compares.
"""

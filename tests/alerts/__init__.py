"""Rules, alerts, routes and runbooks, proven with the real promtool, amtool, Prometheus and Alertmanager."""

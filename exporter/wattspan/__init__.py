"""Wattspan: energy and carbon observability for machine-learning training.

Importing this package imports no metering, no OpenTelemetry and no prometheus-client.
"""

__version__ = "0.1.0"

"""Doing it: specs, pools, plans, deployment, load, telemetry, the run itself, the command line."""

__version__ = "0.1.0"

"""Measuring a server that is already there, without Ray: what ``windtunnel bench`` stands on.

``measure.measure_endpoint`` is the door. Nothing here imports more than the load needs until the
load is over: the first request is to go out at once.
"""

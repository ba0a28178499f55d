"""Simulated engines: servers with timings that are known because they were asked for.

Nothing measured against them is a measurement of hardware; everything here says so by name.
"""

"""Choosing: search spaces, objectives and studies over deployment configurations.

Sees specs and records only; the function that runs a spec is passed in.
"""

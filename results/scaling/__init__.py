"""Scaling: how much of each chip is left when there are more of them, and what more would do."""

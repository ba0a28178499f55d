"""A model of synchronous training on many chips: one step in detail, and weeks of it with failures.

Pure numpy, seeded; nothing here measures anything. ``predict`` puts the pieces together.
"""

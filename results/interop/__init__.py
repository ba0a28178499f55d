"""Other tools' results in, other formats out.

What another tool measured becomes a record whose evidence is ``imported``: its numbers under our
metric names where the definitions agree, kept aside where they do not, and never counted as ours.
"""

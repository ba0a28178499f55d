"""Profiles as a table in memory-mapped files, and the questions it answers.

``columns`` says what a row is; ``writing`` puts profiles into a snapshot and ``snapshot`` opens
one; ``rank`` decides over columns; ``answering`` makes objects of the few rows that are answers.
"""

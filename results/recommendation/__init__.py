"""What to deploy, as values: a profile (what was measured), a question, an answer.

``profile`` ← records; ``question`` × profiles → ``answer``. Nothing here reads or decides anything.
"""

"""Telling: records in, documents out. Reads ``results`` and nothing else of ours."""

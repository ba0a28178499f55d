"""The command line: the composition root. Imports everybody, imported by nobody."""

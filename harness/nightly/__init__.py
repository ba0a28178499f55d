"""A night: a suite's runs beside their canaries, kept as records and an append-only journal."""

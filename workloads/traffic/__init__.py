"""Traffic as data: arrivals, lengths and prompts, all seeded, all pure functions."""

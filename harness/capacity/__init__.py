"""How much load a server takes: the capacity search, the latency–throughput curve."""

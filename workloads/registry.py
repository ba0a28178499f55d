"""From a workload's parameters to the code that knows it. The only place that names them all."""

"""What we know: metrics, samples, measurements, records and the store that keeps them.

Imports nothing of the other packages, and no engine: a record written on a TPU pod is read on a
laptop that has neither Ray nor torch.
"""

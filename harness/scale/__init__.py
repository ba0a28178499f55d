"""A training at several sizes: which runs to make, in which order, and what came of them."""

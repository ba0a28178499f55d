"""A training script that knows nothing of windtunnel but one import: logistic regression by hand.

Runs anywhere, with or without windtunnel: ``python own-training.py --steps 20``. Where the script
is to run outside of windtunnel too, copy workloads/callback/windtunnel_step.py beside it.
"""

import argparse

import numpy as np

try:
    from windtunnel_step import step
except ImportError:  # not started by windtunnel

    def step(**_):
        pass


parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

generator = np.random.default_rng(arguments.seed)
truth = generator.standard_normal(256)
weights = np.zeros(256)
for _ in range(arguments.steps):
    inputs = generator.standard_normal((4096, 256))
    labels = (inputs @ truth > 0).astype(float)
    guess = 1.0 / (1.0 + np.exp(-inputs @ weights))
    loss = -np.mean(np.log(np.where(labels > 0, guess, 1.0 - guess) + 1e-12))
    weights -= 0.5 * inputs.T @ (guess - labels) / len(labels)
    step(loss=loss, num_tokens=len(labels))

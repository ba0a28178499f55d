"""The tokens that are trained on: made from a seed, nothing downloaded, and worth learning.

A batch is a function of (seed, step, rank) alone. Ranks never share a batch, a repeated run sees
the same tokens, and no state is kept between steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FOLLOW_SHARE = 0.75  # of the odd positions, how many are the even position's fixed successor
_TABLES = 0x7AB1E5  # keeps the tables' draws apart from every batch's


@dataclass(frozen=True, slots=True, eq=False)
class TokenStream:
    """Two things can be learned: some tokens are far more common than others (Zipf's law), and a
    token at an even position is often followed by its own fixed successor. The loss therefore
    falls within a few steps, and a model that does not learn is seen not to.

    ``cumulative`` is (V,): the Zipf law's distribution function. ``successor`` is (V,).
    """

    seed: int
    cumulative: npt.NDArray[np.float64]
    token_at: npt.NDArray[np.int64]
    successor: npt.NDArray[np.int64]

    @classmethod
    def make(cls, vocab_size: int, seed: int) -> TokenStream:
        generator = np.random.default_rng([seed, _TABLES])
        weights = 1.0 / np.arange(1, vocab_size + 1)
        cumulative = np.cumsum(weights / weights.sum())
        cumulative[-1] = 1.0  # rounding must not leave a gap above the last token
        return cls(
            seed,
            cumulative,
            generator.permutation(vocab_size),
            generator.permutation(vocab_size),
        )

    def micro_batches(
        self, step: int, feed: int, num: int, batch_size: int, sequence_length: int
    ) -> npt.NDArray[np.int64]:
        """(G, B, T + 1): micro batch g of a step is the batch of step · G + g, ``num`` being G."""
        return np.stack(
            [self.batch(step * num + g, feed, batch_size, sequence_length) for g in range(num)]
        )

    def batch(
        self, step: int, rank: int, batch_size: int, sequence_length: int
    ) -> npt.NDArray[np.int64]:
        """(B, T + 1) tokens: inputs are all but the last column, targets all but the first."""
        generator = np.random.default_rng([self.seed, step, rank])
        size = (batch_size, sequence_length + 1)
        rank_of_token = np.searchsorted(self.cumulative, generator.random(size), side="right")
        tokens = self.token_at[rank_of_token]
        before = tokens[:, 0:-1:2]  # even positions that have an odd one after them
        follows = generator.random(before.shape) < FOLLOW_SHARE
        tokens[:, 1::2] = np.where(follows, self.successor[before], tokens[:, 1::2])
        return tokens

"""Text made by the program, for a tokenizer to be trained on, so that nothing is downloaded.

Words are built from syllables and used with Zipf's frequencies, as words of a language are; the
tokenizer then finds whole words, stems and endings, and prompts have a believable number of bytes
per token.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_ONSETS = (*"bcdfghjklmnprstvwz", "bl", "br", "ch", "dr", "fl", "gr", "pl", "sh", "st", "th", "tr")
_VOWELS = (*"aeiouy", "ai", "ea", "ee", "ie", "oo", "ou")
_CODAS = ("", "", "", "n", "r", "s", "t", "l", "m", "nd", "ng", "rt", "st", "ck")
_ENDINGS = ("", "", "", "", "s", "ed", "ing", "er", "ly", "tion", "ness")
_SYLLABLE_PARTS = (len(_ONSETS), len(_VOWELS), len(_CODAS))
_STOPS = (". ", ". ", ". ", "? ", "! ", ".\n")


def words(num_words: int, seed: int) -> tuple[str, ...]:
    """``num_words`` distinct lower-case words, the shortest first, the same for the same seed."""
    rng = np.random.default_rng((seed, 1))
    made: dict[str, None] = {}
    while len(made) < num_words:
        lengths = rng.integers(1, 5, num_words).tolist()
        parts = rng.integers(0, _SYLLABLE_PARTS, (num_words, 4, 3)).tolist()
        endings = rng.integers(0, len(_ENDINGS), num_words).tolist()
        for length, syllables, ending in zip(lengths, parts, endings, strict=True):
            stem = "".join(
                _ONSETS[onset] + _VOWELS[vowel] + _CODAS[coda]
                for onset, vowel, coda in syllables[:length]
            )
            made[stem + _ENDINGS[ending]] = None
            if len(made) == num_words:
                break
    return tuple(sorted(made, key=lambda word: (len(word), word)))


def sentences(num_sentences: int, vocabulary: tuple[str, ...], seed: int) -> Iterator[str]:
    """Sentences of 4 to 24 words of ``vocabulary``; word ``k`` is drawn with weight 1/(k + 3).

    One word in forty is a number. Each word of the vocabulary also comes once, at the end, so that
    rare words are seen at all.
    """
    rng = np.random.default_rng((seed, 2))
    weights = 1.0 / (np.arange(len(vocabulary)) + 3.0)
    cumulative = np.cumsum(weights / weights.sum())
    for _ in range(num_sentences):
        length = int(rng.integers(4, 25))
        drawn = np.searchsorted(cumulative, rng.random(length), side="right")
        picked = [vocabulary[min(int(index), len(vocabulary) - 1)] for index in drawn]
        for position in np.flatnonzero(rng.random(length) < 1 / 40):
            picked[position] = str(rng.integers(0, 10_000))
        commas = rng.random(length - 1) < 0.1
        body = "".join(
            word + (", " if comma else " ")
            for word, comma in zip(picked, [*commas, False], strict=True)
        ).rstrip()
        yield body[0].upper() + body[1:] + _STOPS[int(rng.integers(0, len(_STOPS)))]
    for first in range(0, len(vocabulary), 20):
        yield " ".join(vocabulary[first : first + 20])

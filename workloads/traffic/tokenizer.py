"""Text with an exact number of tokens, for a given tokenizer.

Words are used that are one token each after a space. Most tokenizers split at spaces first, so n
such words are n tokens; each text is still encoded again before it is used, because some merge
across words. The tokenizers library is imported only where a spec names a tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from workloads.traffic.files import Stamp, refuse, stamp_of

# Fewer words than this would make prompts that share prefixes by chance.
_FEWEST_WORDS = 16
# More words would not make prompts any less alike, and finding them takes time.
_MOST_WORDS = 4096
_LONGEST_WORD = 16
_MAX_REPAIRS = 64
_STEP = 7919  # prime, so that every word has its turn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokenizer:
    """``words`` are one token each after a space, ``first_words`` at the beginning of a text."""

    path: str
    words: tuple[str, ...]
    first_words: tuple[str, ...]
    encoder: Any  # a tokenizers.Tokenizer

    def count(self, text: str) -> int:
        """Tokens of ``text``, special tokens that an engine adds not counted."""
        return len(self.encoder.encode(text, add_special_tokens=False).ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """As ``count``, of many texts at once."""
        return _counts(self.encoder, texts)


def load_tokenizer(folder: str) -> Tokenizer:
    """The tokenizer of a model folder (its ``tokenizer.json``); kept while the file is unchanged.

    Raises TrafficFileUnusable: no such file, no library, or too few words that are one token.
    """
    path = tokenizer_file(folder)
    return _load(path, stamp_of(path))


def tokenizer_file(folder: str) -> str:
    return str(Path(folder).expanduser() / "tokenizer.json")


@lru_cache(maxsize=4)
def _load(path: str, _: Stamp) -> Tokenizer:
    try:
        import tokenizers
    except ImportError:
        refuse(path, None, "needs the tokenizers library: pip install 'windtunnel[models]'")
    try:
        encoder = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # the library raises plain Exception
        refuse(path, None, f"is no tokenizer: {error}")
    encoder.no_truncation()
    encoder.no_padding()
    candidates = _candidates(encoder)
    alone = [w for w, n in zip(candidates, _counts(encoder, candidates), strict=True) if n == 1]
    lead = alone[0] if alone else ""
    pairs = _counts(encoder, [f"{lead} {word}" for word in candidates])
    words = [w for w, n in zip(candidates, pairs, strict=True) if n == 2 and len(w) > 1]
    if not alone or len(words) < _FEWEST_WORDS:
        refuse(
            path,
            None,
            f"has {len(words)} plain words that are one token; text of exact length needs "
            f"{_FEWEST_WORDS}: send token ids (prompt_form: ids) or leave tokenizer out",
        )
    return Tokenizer(
        path=path,
        words=tuple(words[:_MOST_WORDS]),
        first_words=tuple(alone[:_MOST_WORDS]),
        encoder=encoder,
    )


def _candidates(encoder: Any) -> list[str]:
    """What stands for one token and is written in small Latin letters, in the order of ids."""
    by_id = sorted(encoder.get_vocab(with_added_tokens=False).values())
    texts = encoder.decode_batch([[i] for i in by_id], skip_special_tokens=False)
    stripped = (text.strip() for text in texts)
    plain = (t for t in stripped if t.isascii() and t.isalpha() and t.islower())
    return list(dict.fromkeys(t for t in plain if len(t) <= _LONGEST_WORD))


def _counts(encoder: Any, texts: Iterable[str]) -> list[int]:
    encoded = encoder.encode_batch(list(texts), add_special_tokens=False)
    return [len(one.ids) for one in encoded]


def exact_text(tokenizer: Tokenizer, words: list[str]) -> str:
    """A text of exactly ``len(words)`` tokens: the words themselves, or nearly.

    Where they are more or fewer tokens together, words at the end are dropped or others added until
    the count is right. Raises TrafficFileUnusable where that does not come to an end.
    """
    wanted, tried = len(words), list(words)
    added = tokenizer.words.index(words[-1]) if words[-1] in tokenizer.words else 0
    for _ in range(_MAX_REPAIRS):
        text = " ".join(tried)
        excess = tokenizer.count(text) - wanted
        if excess == 0:
            break
        if excess > 0:
            tried = tried[: max(1, len(tried) - excess)]
        for _ in range(-excess):
            # Never the same words again: those may be what merges.
            added = (added + _STEP) % len(tokenizer.words)
            tried.append(tokenizer.words[added])
    else:
        refuse(
            tokenizer.path,
            None,
            f"no text of exactly {wanted} tokens was found: send token ids (prompt_form: ids) or "
            "leave tokenizer out",
        )
    return text

"""Text with an exact number of tokens, counted again here with the library itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from workloads.errors import TrafficFileUnusable
from workloads.model_maker import make_model
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ConstantArrivals,
    FilePrompts,
    FixedLength,
    SharedPrefixPrompts,
    Traffic,
    UniformLength,
)

tokenizers = pytest.importorskip("tokenizers")

WORDS = [f"w{a}{b}o" for a in "bcdfgh" for b in "aeiou"]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A byte-level BPE, as Llama 3, Qwen and GPT-2 have."""
    folder = tmp_path_factory.mktemp("byte-level")
    make_model(folder / "m", "tiny-llama", 0)
    return str(folder / "m")


@pytest.fixture(scope="module")
def word_piece(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Words and their ends, split at spaces, as BERT has."""
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *WORDS, *(f"##{w}" for w in WORDS)])}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.decoder = tokenizers.decoders.WordPiece()
    return saved(made, tmp_path_factory.mktemp("word-piece"))


@pytest.fixture(scope="module")
def merging(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One that makes single tokens of some pairs of words: words alone are then not exact."""
    pieces = [("<unk>", 0.0), *((c, -20.0) for c in "abcdefghijklmnopqrstuvwxyz▁")]
    pieces += [(lead + word, -5.0) for word in WORDS for lead in ("", "▁")]
    pieces += [(f"▁{a}▁{b}", -1.0) for a, b in zip(WORDS, WORDS[3:], strict=False)]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0))
    made.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    made.decoder = tokenizers.decoders.Metaspace(prepend_scheme="never")
    return saved(made, tmp_path_factory.mktemp("merging"))


def saved(made: object, folder: Path) -> str:
    made.save(str(folder / "tokenizer.json"))  # type: ignore[attr-defined]
    return str(folder)


def counted(folder: str, text: object) -> int:
    library = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    assert isinstance(text, str)
    return len(library.encode(text, add_special_tokens=False).ids)


CHAT = Traffic(
    arrivals=ConstantArrivals(rate_rps=5.0),
    prompt_tokens=UniformLength(low=1, high=120),
    num_requests=40,
    api="chat",
    seed=2,
)


@pytest.mark.parametrize("kind", ["byte_level", "word_piece", "merging"])
def test_texts_have_the_tokens_asked_for(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    schedule = build_schedule(replace(CHAT, tokenizer=folder))
    for i in range(schedule.num_requests):
        assert counted(folder, schedule.prompt(i)) == schedule.prompt_tokens[i]
    again = build_schedule(replace(CHAT, tokenizer=folder))
    assert [again.prompt(i) for i in range(42)] == [schedule.prompt(i) for i in range(42)]
    assert len({schedule.prompt(i) for i in range(42) if schedule.prompt_tokens[i] > 3}) > 35


def test_words_of_the_merging_tokenizer_are_not_enough(merging: str) -> None:
    """So that the repair above has something to repair."""
    pairs = f"{WORDS[9]} {WORDS[0]} {WORDS[3]}"
    assert counted(merging, pairs) == 2


def test_completions_take_exact_text_too(byte_level: str) -> None:
    schedule = build_schedule(
        replace(CHAT, api="completions", prompt_form="text", tokenizer=byte_level)
    )
    assert counted(byte_level, schedule.prompt(7)) == schedule.prompt_tokens[7]
    # Ids are exact as they are.
    ids = build_schedule(replace(CHAT, api="completions", tokenizer=byte_level))
    assert not isinstance(ids.prompt(7), str)


def test_shared_prefixes_are_shared_tokens(byte_level: str) -> None:
    groups = SharedPrefixPrompts(
        num_groups=1,
        prompts_per_group=8,
        prefix_tokens=FixedLength(tokens=50),
        question_tokens=FixedLength(tokens=12),
    )
    shared = Traffic(
        arrivals=ConstantArrivals(rate_rps=1.0),
        prompts=groups,
        num_requests=8,
        num_warmup_requests=0,
        api="chat",
        tokenizer=byte_level,
    )
    library = tokenizers.Tokenizer.from_file(f"{byte_level}/tokenizer.json")
    schedule = build_schedule(shared)
    ids = [library.encode(str(schedule.prompt(i)), add_special_tokens=False).ids for i in range(8)]
    assert {len(one) for one in ids} == {62}
    assert len({tuple(one[:50]) for one in ids}) == 1
    assert len({tuple(one[:54]) for one in ids}) == 8


def test_a_files_tokens_are_counted(byte_level: str, tmp_path: Path) -> None:
    path = tmp_path / "talks.json"
    talk = [
        {"from": "human", "value": "one two three"},
        {"from": "gpt", "value": "four"},
    ]
    silent = [{"from": "human", "value": "five"}]
    path.write_text(json.dumps([{"conversations": talk}, {"conversations": silent}]))
    schedule = build_schedule(
        replace(
            CHAT,
            prompts=FilePrompts(path=str(path), format="sharegpt"),
            tokenizer=byte_level,
            num_warmup_requests=0,
            num_requests=2,
            salt="s",
        )
    )
    assert schedule.prompt_tokens.tolist() == [
        counted(byte_level, "s one two three"),
        counted(byte_level, "s five"),
    ]
    # The answer that is in the file says how long; where there is none, the spec does.
    assert schedule.output_tokens.tolist() == [counted(byte_level, "four"), 32]


def test_what_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(TrafficFileUnusable, match=r"tokenizer\.json: cannot be read: No such"):
        build_schedule(replace(CHAT, tokenizer=str(tmp_path)))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TrafficFileUnusable, match="is no tokenizer"):
        build_schedule(replace(CHAT, tokenizer=str(tmp_path)))
    numbers = {str(i): i for i in range(100)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="0"))
    with pytest.raises(TrafficFileUnusable, match="has 0 plain words that are one token"):
        build_schedule(replace(CHAT, tokenizer=saved(made, tmp_path)))

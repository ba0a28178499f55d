"""One bench, asked for: the words of the command line as values, checked before any is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.bench.asks import arrivals_of, length_of
from harness.bench.until import Precise, until_of
from harness.errors import SpecError
from harness.settings import secret
from results.errors import InvalidSlo, InvalidStopRule, UnknownMetric
from results.slo import Slo, parse_slo
from workloads.traffic.checks import check_traffic
from workloads.traffic.spec import Traffic

DEFAULT_DURATION_S = 30.0
APIS = ("completions", "chat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The options as they were written."""

    endpoint: str
    model: str | None
    api: str
    stream: bool
    rate: float | None
    concurrency: int | None
    arrival: str
    burstiness: float
    think: float
    duration: float | None
    num_requests: int | None
    input_tokens: str
    output_tokens: str
    warmup: int
    timeout: float
    seed: int
    tokenizer: Path | None
    api_key_env: str
    slo: str
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    traffic: Traffic
    slo: Slo | None
    until: Precise | None
    api_key: str | None
    vocab_size: int | None

    @property
    def limits(self) -> dict[str, float]:
        """The limit of a single request, by metric: what goodput counts by."""
        return self.slo.per_request if self.slo is not None else {}

    def __repr__(self) -> str:
        return f"Ask(traffic={self.traffic!r})"  # without the key


def ask_of(words: Words) -> Ask:
    """Raises SpecError for what is wrong in itself."""
    key = secret(words.api_key_env)
    if words.api_key_env and key is None:
        raise SpecError(
            f"--api-key-env names {words.api_key_env}, which is not set: export it, or leave the "
            "option out"
        )
    try:
        slo = parse_slo(words.slo) if words.slo else None
        limits = slo.per_request if slo is not None else {}
        until = until_of(words.until, limits) if words.until else None
    except (InvalidSlo, InvalidStopRule, UnknownMetric) as error:
        raise SpecError(str(error)) from None
    return Ask(
        traffic=traffic_of(words),
        slo=slo,
        until=until,
        api_key=key,
        vocab_size=vocab_size_of(words.tokenizer) if words.tokenizer is not None else None,
    )


def traffic_of(words: Words) -> Traffic:
    if words.api not in APIS:
        raise SpecError(f"--api {words.api!r} is not known; it is one of {', '.join(APIS)}")
    duration_s = words.duration
    if duration_s is None and words.num_requests is None:
        duration_s = DEFAULT_DURATION_S
    traffic = Traffic(
        arrivals=arrivals_of(
            rate=words.rate,
            concurrency=words.concurrency,
            kind=words.arrival,
            burstiness=words.burstiness,
            think_s=words.think,
        ),
        prompt_tokens=length_of(words.input_tokens, "--input-tokens"),
        output_tokens=length_of(words.output_tokens, "--output-tokens"),
        duration_s=duration_s,
        num_requests=words.num_requests,
        num_warmup_requests=words.warmup,
        seed=words.seed,
        api="chat" if words.api == "chat" else "completions",
        request_timeout_s=words.timeout,
        stream=None if words.stream else False,
        tokenizer=_folder(words.tokenizer) if words.tokenizer and words.api == "chat" else "",
    )
    try:
        check_traffic(traffic)
    except ValueError as error:
        raise SpecError(str(error)) from None
    return traffic


def vocab_size_of(path: Path) -> int:
    """The size of the vocabulary of a tokenizer or model folder, so that prompts use all of it.

    Raises SpecError when neither ``config.json`` nor ``tokenizer.json`` tells.
    """
    if not path.exists():
        raise SpecError(f"--tokenizer {path}: there is no such file or folder")
    folder = Path(_folder(path))
    for name, read in (
        ("config.json", lambda d: d["vocab_size"]),
        ("tokenizer.json", lambda d: len(d["model"]["vocab"])),
    ):
        document = _json(folder / name)
        try:
            size = read(document)
        except (KeyError, TypeError):
            continue
        if isinstance(size, int) and size > 0:
            return size
    raise SpecError(
        f"--tokenizer {path}: neither config.json nor tokenizer.json in {folder} tells the size of "
        "a vocabulary; name the model's folder"
    )


def _folder(path: Path) -> str:
    return str(path if path.is_dir() else path.parent)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None

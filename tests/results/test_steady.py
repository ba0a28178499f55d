"""The verdict on series whose truth is known: steady queues, and every way not to be steady."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from results.samples import RequestSamples
from results.steady import Verdict, cusum, steady_only, steady_state, steady_state_of, transient_end
from results.testing import make_requests

Rng = np.random.Generator
RUNS = 60


def ttft(n: int, rng: Rng) -> np.ndarray:
    return np.asarray(0.05 * rng.lognormal(0, 0.3, n))


def queue(n: int, load: float, rng: Rng) -> np.ndarray:
    """Sojourn times of an M/M/1 queue in its steady state; above a load of one, of one that starts
    empty and grows."""
    first = 0.0 if load >= 1 or rng.random() < 1 - load else rng.exponential(1 / (1 - load))
    service = rng.exponential(1, n)
    path = np.concatenate(
        [[first], first + np.cumsum((service - rng.exponential(1 / load, n))[:-1])]
    )
    return path - np.minimum(np.minimum.accumulate(path), 0.0) + service


def share_steady(make: Callable[[Rng], np.ndarray]) -> float:
    rng = np.random.default_rng(2)
    found = [steady_state(make(rng)).verdict is Verdict.STEADY for _ in range(RUNS)]
    return float(np.mean(found))


@pytest.mark.parametrize("n", [60, 300, 1000, 5000])
def test_independent_latencies_are_steady_and_hardly_trimmed(n: int) -> None:
    assert share_steady(lambda rng: ttft(n, rng)) >= 0.97
    rng = np.random.default_rng(3)
    assert np.median([steady_state(ttft(n, rng)).first for _ in range(RUNS)]) <= 0.02 * n


@pytest.mark.parametrize(("load", "n"), [(0.5, 1000), (0.7, 2000), (0.8, 5000), (0.9, 20_000)])
def test_a_steady_queue_is_steady_when_the_run_is_long_against_its_memory(
    load: float, n: int
) -> None:
    assert share_steady(lambda rng: queue(n, load, rng)) >= 0.9


N = 1000
AT = np.arange(N) / N
CHANGES: dict[str, Callable[[Rng], np.ndarray]] = {
    "a queue that grows": lambda rng: 0.5 + queue(N, 1.1, rng),
    "a drift to twice the latency": lambda rng: ttft(N, rng) * (1 + AT),
    "a step half-way": lambda rng: ttft(N, rng) * np.where(AT < 0.5, 1, 1.5),
    "a step near the end": lambda rng: ttft(N, rng) * np.where(AT < 0.8, 1, 2),
    "a slow fifth in the middle": lambda rng: ttft(N, rng) * np.where(abs(AT - 0.6) < 0.1, 3, 1),
    "faster after two thirds": lambda rng: ttft(N, rng) * np.where(AT < 0.66, 2, 1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_found(name: str) -> None:
    assert share_steady(CHANGES[name]) <= 0.1


def test_a_warm_up_ends_where_it_ends() -> None:
    rng = np.random.default_rng(4)
    found = [steady_state(ttft(N, rng) * np.where(AT < 0.1, 4, 1)) for _ in range(RUNS)]
    assert {state.verdict for state in found} == {Verdict.STEADY}
    assert np.quantile([state.first for state in found], 0.1) >= 100
    assert np.quantile([state.first for state in found], 0.9) <= 125


def test_the_words_say_what_changed_and_when() -> None:
    values = np.where(np.arange(400) < 200, 0.1, 0.4) * np.tile([0.98, 1.02], 200)
    state = steady_state(values, np.arange(400) * 0.5)
    assert state.verdict is Verdict.NO_STEADY_STATE
    assert "from 0.1 s to 0.4 s" in state.why or "from 0.098 s to 0.392 s" in state.why
    assert "100 s" in state.why


def test_few_values_and_equal_values() -> None:
    assert steady_state(np.ones(29)).verdict is Verdict.TOO_FEW
    assert steady_state(np.ones(30)) == steady_state(np.full(30, 2.0))
    assert steady_state(np.ones(30)).verdict is Verdict.STEADY
    assert cusum(np.full(500, 0.1))[0] == 0.0
    assert transient_end(np.ones(9)) == 0


def warmed(first_rows: int) -> RequestSamples:
    """A run without failures whose first rows took four times as long."""
    base = make_requests(600, seed=1)
    rng = np.random.default_rng(8)
    at = np.arange(600) * 0.1
    slow = np.where(np.arange(600) < first_rows, 4, 1)
    return replace(
        base,
        intended_s=at,
        first_token_s=at + ttft(600, rng) * slow,
        done_s=at + 5,
        error=np.array([""] * 600, dtype=object),
        is_warmup=np.zeros(600, dtype=bool),
    )


def test_trimming_is_asked_for_and_moves_rows_into_the_warm_up() -> None:
    samples = warmed(60)
    trimmed, state = steady_only(samples)
    assert 60 <= state.first <= 75
    assert trimmed.is_warmup.sum() == state.first
    assert not trimmed.is_warmup[state.first :].any()
    assert not samples.is_warmup.any()


def test_nothing_is_trimmed_where_there_is_no_steady_state() -> None:
    samples = warmed(400)
    trimmed, state = steady_only(samples)
    assert state.verdict is Verdict.NO_STEADY_STATE
    assert trimmed is samples


def test_rows_are_taken_in_order_of_their_intended_sends() -> None:
    samples = warmed(60)
    mixed = np.random.default_rng(9).permutation(600)
    shuffled = replace(
        samples,
        intended_s=samples.intended_s[mixed],
        first_token_s=samples.first_token_s[mixed],
        done_s=samples.done_s[mixed],
    )
    assert steady_state_of(shuffled) == steady_state_of(samples)
    trimmed, state = steady_only(shuffled)
    assert set(mixed[trimmed.is_warmup]) == set(range(state.first))


def test_without_first_tokens_the_whole_answer_is_judged() -> None:
    samples = replace(warmed(0), first_token_s=np.full(600, np.nan))
    assert steady_state_of(samples).num_values == 600

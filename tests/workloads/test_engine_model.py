"""The engine model against queueing theory, arithmetic by hand, and a slow scheduler that keeps
every sequence by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from workloads.errors import LaunchRefused
from workloads.simulated.accelerators import ACCELERATORS, MODELS
from workloads.simulated.engine import Engine
from workloads.simulated.engine_request import EngineConfig, EngineRequest, steps_until
from workloads.simulated.roofline import Roofline, kv_bytes_per_token, roofline
from workloads.simulated.simulate import SimulatedLoad, SimulatedRun, prefix_hashes, simulate
from workloads.simulated.sizing import Deployed, engine_config, num_blocks


def a_roofline(**changes: float) -> Roofline:
    """Every step takes 10 ms unless told otherwise."""
    plain = {"token_s": 0.0, "sampled_s": 0.0, "pair_s": 0.0, "kv_read_s": 0.0, "all_reduce_s": 0.0}
    return Roofline(**{"weights_s": 0.01, **plain, **changes})


def config(**changes: Any) -> EngineConfig:
    return EngineConfig(**{"roofline": a_roofline(), "num_blocks": 1000, **changes})


def load(arrived_s: Any, prompt: Any, output: Any, hashes: Any = ()) -> SimulatedLoad:
    n = len(arrived_s)
    return SimulatedLoad(
        arrived_s=np.asarray(arrived_s, dtype=np.float64),
        prompt_tokens=np.broadcast_to(np.asarray(prompt, dtype=np.int64), n).copy(),
        output_tokens=np.broadcast_to(np.asarray(output, dtype=np.int64), n).copy(),
        block_hashes=hashes,
    )


# Queueing theory. One sequence at a time is a single server.


def poisson(rate: float, n: int) -> Any:
    return np.cumsum(np.random.default_rng(1).exponential(1 / rate, n))


@pytest.mark.parametrize("utilisation", [0.3, 0.7])
def test_one_at_a_time_with_equal_answers_is_m_d_1(utilisation: float) -> None:
    service_s, n = 0.05, 20_000
    arrived_s = poisson(utilisation / service_s, n)
    run = simulate(load(arrived_s, 8, 5), config(max_num_seqs=1))
    # Lindley: the next begins when it has come and the one before is done.
    done_s, free_s = np.empty(n), 0.0
    for i, at_s in enumerate(arrived_s):
        free_s = max(free_s, at_s) + service_s
        done_s[i] = free_s
    np.testing.assert_allclose(run.done_s, done_s, rtol=1e-9)
    waited_s = (run.done_s - arrived_s - service_s).mean()
    assert waited_s == pytest.approx(
        utilisation * service_s / (2 * (1 - utilisation)), rel=0.1
    )  # Pollaczek–Khinchine for a service time that does not vary


def test_one_at_a_time_with_unequal_answers_is_m_g_1() -> None:
    n, rate = 30_000, 6.0
    tokens = np.random.default_rng(2).integers(1, 21, n)  # 10 to 200 ms, mean 105
    arrived_s = poisson(rate, n)
    run = simulate(load(arrived_s, 8, tokens), config(max_num_seqs=1))
    mean_s = 0.01 * 10.5
    mean_square = 1e-4 * sum(k * k for k in range(1, 21)) / 20
    waited_s = (run.first_token_s - arrived_s - 0.01).mean()
    assert waited_s == pytest.approx(rate * mean_square / (2 * (1 - rate * mean_s)), rel=0.1)


def test_a_batch_that_has_room_for_all_makes_nobody_wait_for_a_seat() -> None:
    arrived_s = poisson(100.0, 5_000)
    run = simulate(load(arrived_s, 8, 30), config(max_num_seqs=2048))
    ttft_s = run.first_token_s - arrived_s
    # Steps never stop: an arrival waits for the rest of one, evenly between none and all of it.
    assert ttft_s.min() > 0.01 - 1e-9
    assert ttft_s.max() < 0.02 + 1e-9
    assert ttft_s.mean() == pytest.approx(0.015, rel=0.02)
    np.testing.assert_allclose(run.done_s - run.first_token_s, 29 * 0.01, rtol=1e-9)


# Arithmetic by hand.


def most_at_once(run: SimulatedRun, begun_s: Any) -> int:
    steps = sorted([(t + 1e-9, 1) for t in begun_s] + [(t, -1) for t in run.done_s])
    return int(np.cumsum([step for _, step in steps]).max())


def test_the_cache_admits_what_its_blocks_hold() -> None:
    # 100 + 60 tokens but the last: 159 tokens are 10 blocks of 16. 45 blocks hold four of them.
    # Prompts take 7 blocks: a fifth gets in at once, and leaves when the others grow.
    run = simulate(load([0.0] * 12, 100, 60), config(num_blocks=45, max_num_batched_tokens=700))
    assert run.peak_blocks <= 45
    assert run.num_preemptions.sum() > 0
    assert not np.isnan(run.done_s).any()
    roomy = simulate(load([0.0] * 12, 100, 60), config(num_blocks=120, max_num_batched_tokens=1200))
    assert roomy.num_preemptions.sum() == 0
    assert roomy.peak_blocks == 120
    assert run.done_s.max() > 2.5 * roomy.done_s.max()  # three shifts of four, at least


def test_a_request_that_can_never_fit_is_refused() -> None:
    assert config(num_blocks=10).fits(100, 61)
    assert not config(num_blocks=10).fits(100, 62)
    with pytest.raises(ValueError, match="do not fit into 10 blocks of 16"):
        simulate(load([0.0], 100, 62), config(num_blocks=10))


def test_a_long_prompt_is_computed_in_chunks_beside_the_others() -> None:
    # Budget 100: the first step takes 10 + 90 tokens, then one decodes and 99 of 200 are left …
    limits = config(max_num_batched_tokens=100, max_num_seqs=4)
    run = simulate(load([0.0, 0.0], [10, 290], [50, 1]), limits, keeps_tokens=True)
    # 290 = 90 + 99 + 99 + 2: its token comes with the fourth step.
    assert run.first_token_s == pytest.approx([0.01, 0.04])
    np.testing.assert_allclose(np.diff(run.token_s[:50]), 0.01, rtol=1e-9)


def test_prefix_hits_are_those_counted_by_hand() -> None:
    # Three prompts of 50 tokens with a prefix of 32 in common, one after another: blocks 0 and 1
    # are shared, block 2 is each one's own, two tokens fill no block.
    hashes = prefix_hashes(np.zeros(3, dtype=np.int64), 32, np.full(3, 50), 16)
    assert [h[:2] for h in hashes] == [(0, 1)] * 3
    assert len({h[2] for h in hashes}) == 3
    run = simulate(load([0.0, 1.0, 2.0], 50, 4, hashes), config())
    assert run.cached_tokens.tolist() == [0, 32, 32]
    assert (run.num_cache_queries, run.num_cache_hits) == (150, 64)
    off = simulate(load([0.0, 1.0], 50, 4, hashes[:2]), config(enable_prefix_caching=False))
    assert off.num_cache_hits == 0


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    hashes = [(1, 2, 3)] * 2  # 48 tokens, all three blocks known; two may be used
    run = simulate(load([0.0, 1.0], 48, 1, hashes), config())
    assert run.cached_tokens.tolist() == [0, 32]


def test_the_beginning_of_the_least_recent_prompt_is_given_up_last() -> None:
    # Four blocks. A leaves (1, 2), B leaves (3), one is plain. C takes three: the plain one, then
    # A's second, then A's first. A finds nothing again, B finds its own.
    hashes = [(1, 2), (3,), (7, 8, 9), (3,), (1, 2)]
    run = simulate(
        load([0.0, 1.0, 2.0, 3.0, 4.0], [32, 16, 48, 17, 33], 1, hashes), config(num_blocks=4)
    )
    assert run.cached_tokens.tolist() == [0, 0, 0, 16, 0]


def test_two_at_once_share_the_blocks_of_the_first() -> None:
    run = simulate(load([0.0, 0.0], 65, 4, [(1, 2, 3, 4)] * 2), config())
    assert run.cached_tokens.tolist() == [0, 64]
    assert run.peak_blocks == 4 + 2  # four shared ones, and each its fifth


def test_what_decoding_filled_is_found_by_the_next_turn() -> None:
    # 16 + 18 tokens: 33 have keys and values, so the second block is full when the answer is done.
    run = simulate(load([0.0, 1.0], [16, 40], [18, 1], [(1, 2), (1, 2)]), config())
    assert run.cached_tokens.tolist() == [0, 32]


# The roofline, by hand.


def test_shapes_have_the_number_of_parameters_that_is_published() -> None:
    published = {
        "llama-3.1-8b": 8_030_261_248,
        "llama-3.1-70b": 70_553_706_496,
        "llama-3.1-405b": 405_853_388_800,
        "mistral-7b": 7_248_023_552,
    }
    assert {name: MODELS[name].num_parameters for name in published} == published


def test_a_lone_token_takes_as_long_as_reading_the_weights() -> None:
    r = roofline(MODELS["llama-3.1-8b"], ACCELERATORS["H100"])
    # 8.03e9 parameters less 128256 · 4096 of the embedding, 2 bytes each, over 3.35e12 bytes/s.
    assert r.step_s(1, 1, 1, 1) == pytest.approx((8.03026e9 - 0.52534e9) * 2 / 3.35e12, rel=1e-3)


def test_a_long_prompt_takes_as_long_as_its_arithmetic() -> None:
    r = roofline(MODELS["llama-3.1-8b"], ACCELERATORS["H100"])
    n = 8192
    layers = 8.03026e9 - 2 * 0.52534e9
    pairs = n * (n + 1) / 2
    flops = 2 * layers * n + 2 * 0.52534e9 + 4 * 4096 * 32 * pairs
    assert r.step_s(n, 1, n * (n + 1) // 2, n) == pytest.approx(flops / 989.4e12, rel=1e-3)


def test_keys_and_values_of_a_token_are_those_of_its_heads() -> None:
    assert kv_bytes_per_token(MODELS["llama-3.1-8b"]) == 2 * 32 * 8 * 128 * 2
    assert kv_bytes_per_token(MODELS["llama-3.1-8b"], 16) == 2 * 32 * 1 * 128 * 2


def test_more_chips_share_the_work_and_pay_for_it() -> None:
    one = roofline(MODELS["llama-3.1-70b"], ACCELERATORS["H100"])
    four = roofline(MODELS["llama-3.1-70b"], ACCELERATORS["H100"], 4)
    assert four.weights_s == pytest.approx(one.weights_s / 4)
    assert one.all_reduce_s == 0.0
    # Two a layer, 80 layers, 8192 values of 2 bytes, 3/2 of them over a link of 450 GB/s.
    assert four.all_reduce_s == pytest.approx(2 * 80 * 8192 * 2 * 1.5 / 450e9)


def test_the_cache_is_what_the_weights_leave() -> None:
    # 0.92 · 80 GB − 16.06 GB, in blocks of 16 tokens of 131,072 bytes.
    assert num_blocks(Deployed()) == int((0.92 * 80e9 - 8_030_261_248 * 2) // (131_072 * 16))
    with pytest.raises(LaunchRefused, match="leaves no room"):
        engine_config(Deployed(model="llama-3.1-70b", accelerator="H100"))
    assert engine_config(Deployed(model="llama-3.1-70b", tensor_parallel_size=4)).num_blocks > 1000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "gpt-9"}, "llama-3.1-8b"),
        ({"accelerator": "Z80"}, "H100"),
        ({"tensor_parallel_size": 3}, "does not divide"),
        ({"memory_efficiency": 1.5}, "above 0, at most 1"),
        ({"max_num_seqs": 4096}, "is below max_num_seqs"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(LaunchRefused, match=words):
        engine_config(Deployed(**changes))


# Against a scheduler that keeps every sequence by itself.


@dataclass
class Slow:
    prompt: int
    output: int
    arrived_s: float
    computed: int = 0
    generated: int = 0
    blocks: int = 0
    preemptions: int = 0
    token_s: list[float] = field(default_factory=list)


def slowly(arrivals: SimulatedLoad, limits: EngineConfig) -> list[Slow]:
    """vLLM's scheduler in the plainest way: one sequence after another, one step after another."""
    todo = [
        Slow(int(p), int(o), float(a))
        for p, o, a in zip(
            arrivals.prompt_tokens, arrivals.output_tokens, arrivals.arrived_s, strict=True
        )
    ]
    everyone, waiting, running, clock = list(todo), [], [], 0.0
    free, size = limits.num_blocks, limits.block_size
    while todo or waiting or running:
        if not waiting and not running:
            clock = max(clock, todo[0].arrived_s)
        while todo and todo[0].arrived_s <= clock:
            waiting.append(todo.pop(0))
        budget, batch, preempted = limits.max_num_batched_tokens, [], False
        i = 0
        while i < len(running):
            s = running[i]
            n = min(s.prompt + s.generated - s.computed, budget)
            need = -(-(s.computed + n) // size) - s.blocks
            while need > free:
                victim = running.pop()
                free += victim.blocks
                victim.blocks = victim.computed = 0
                victim.preemptions += 1
                waiting.insert(0, victim)
                preempted = True
                if victim is s:
                    break
            else:
                free -= need
                s.blocks += need
                budget -= n
                batch.append((s, n))
                i += 1
        while waiting and budget and len(running) < limits.max_num_seqs and not preempted:
            s = waiting[0]
            n = min(s.prompt + s.generated, budget)
            need = -(-n // size)
            if need > free:
                break
            waiting.pop(0)
            running.append(s)
            free -= need
            s.blocks = need
            budget -= n
            batch.append((s, n))
        tokens = sum(n for _, n in batch)
        sampled = sum(s.computed + n == s.prompt + s.generated for s, n in batch)
        pairs = sum(s.computed + j + 1 for s, n in batch for j in range(n))
        read = sum(s.computed + n for s, n in batch)
        clock += limits.roofline.step_s(tokens, sampled, pairs, read)
        for s, n in batch:
            s.computed += n
            if s.computed == s.prompt + s.generated:
                s.generated += 1
                s.token_s.append(clock)
                if s.generated == s.output:
                    running.remove(s)
                    free += s.blocks
    assert free == limits.num_blocks
    return everyone


LOADS = st.lists(
    st.tuples(st.floats(0.0, 0.3), st.integers(1, 60), st.integers(1, 25)),  # gap, prompt, output
    min_size=1,
    max_size=14,
)
LIMITS = st.builds(
    config,
    num_blocks=st.integers(24, 60),
    block_size=st.integers(1, 9).map(lambda b: b + 3),
    max_num_seqs=st.integers(1, 9),
    max_num_batched_tokens=st.integers(9, 50),
    roofline=st.builds(
        a_roofline,
        token_s=st.sampled_from([0.0, 1e-3]),
        pair_s=st.sampled_from([0.0, 1e-5]),
        kv_read_s=st.sampled_from([0.0, 3e-5]),
        overhead_s=st.sampled_from([0.0, 1e-3]),
    ),
)


def drawn(rows: list[tuple[float, int, int]]) -> SimulatedLoad:
    gaps, prompts, outputs = zip(*rows, strict=True)
    return load(np.cumsum(gaps), prompts, outputs)


@settings(max_examples=200, deadline=None)
@given(rows=LOADS, limits=LIMITS)
def test_it_does_what_the_slow_scheduler_does(rows: Any, limits: EngineConfig) -> None:
    asked = drawn(rows)
    expected = slowly(asked, limits)
    ends_s = np.array([t for s in expected for t in s.token_s])
    # An arrival within a rounding error of a step's end is in that step or in the next: both add
    # the same numbers, in another order.
    nearest_s = np.abs(ends_s[:, None] - np.cumsum([row[0] for row in rows])).min(initial=1.0)
    assume(nearest_s > 1e-9)
    run = simulate(asked, limits, keeps_tokens=True)
    assert run.num_preemptions.tolist() == [s.preemptions for s in expected]
    assert np.diff(run.token_offset).tolist() == [s.output for s in expected]
    np.testing.assert_allclose(run.token_s, [t for s in expected for t in s.token_s], rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(rows=LOADS, limits=LIMITS, groups=st.lists(st.integers(0, 2), min_size=14, max_size=14))
def test_nothing_is_lost_and_nothing_is_kept(
    rows: Any, limits: EngineConfig, groups: list[int]
) -> None:
    asked = drawn(rows)
    named = prefix_hashes(np.array(groups[: len(rows)]), 20, asked.prompt_tokens, limits.block_size)
    run = simulate(
        SimulatedLoad(
            arrived_s=asked.arrived_s,
            prompt_tokens=asked.prompt_tokens,
            output_tokens=asked.output_tokens,
            block_hashes=named,
        ),
        limits,
        keeps_tokens=True,
    )
    assert np.all(run.first_token_s > asked.arrived_s)
    assert np.all(run.done_s >= run.first_token_s)
    assert run.peak_blocks <= limits.num_blocks
    assert len(run.token_s) == asked.output_tokens.sum()
    assert np.all(run.cached_tokens < asked.prompt_tokens)
    assert run.num_cache_hits == run.cached_tokens.sum()
    assert run.num_cache_queries == asked.prompt_tokens.sum()


@settings(max_examples=60, deadline=None)
@given(rows=LOADS, limits=LIMITS)
def test_many_steps_at_once_are_the_same_as_one_by_one(rows: Any, limits: EngineConfig) -> None:
    asked = drawn(rows)
    engine = Engine(limits)
    for i, (prompt, output) in enumerate(
        zip(asked.prompt_tokens, asked.output_tokens, strict=True)
    ):
        engine.submit(EngineRequest(i, int(prompt), int(output), 0.0))
    while engine.advance(max_steps=1):
        pass
    at_once = simulate(load([0.0] * len(rows), asked.prompt_tokens, asked.output_tokens), limits)
    done = sorted(engine.finished, key=lambda r: r.number)
    np.testing.assert_allclose([r.done_s for r in done], at_once.done_s, rtol=1e-9)
    assert engine.pool.num_held == 0
    assert engine.num_generated_tokens == asked.output_tokens.sum()


def test_the_same_load_has_the_same_columns() -> None:
    rng = np.random.default_rng(3)
    asked = load(poisson(40.0, 2_000), rng.integers(10, 500, 2_000), rng.integers(1, 80, 2_000))
    limits = engine_config(Deployed(max_num_seqs=32))
    one, other = (simulate(asked, limits, keeps_tokens=True) for _ in range(2))
    np.testing.assert_array_equal(one.token_s, other.token_s)
    samples = one.to_samples()
    np.testing.assert_array_equal(samples.first_token_s, samples.event_s[samples.event_offset[:-1]])
    np.testing.assert_array_equal(samples.done_s, samples.event_s[samples.event_offset[1:] - 1])
    assert set(samples.model) == {"simulated"}


def test_a_sequence_that_nobody_waits_for_leaves_nothing_behind() -> None:
    engine = Engine(config(max_num_seqs=2, max_num_batched_tokens=30))
    requests = [EngineRequest(i, 20, 10, 0.0) for i in range(3)]
    for request in requests:
        engine.submit(request)
    engine.advance(max_steps=1)  # the first decodes, the second is half computed, the third waits
    for request in requests:
        engine.abort(request)
    assert engine.is_idle
    assert engine.pool.num_held == 0
    engine.submit(EngineRequest(3, 20, 10, 0.0))
    while engine.advance():
        pass
    assert [r.number for r in engine.finished] == [3]


@given(wait_s=st.floats(1e-6, 1e4), first_s=st.floats(1e-4, 1.0), growth_s=st.floats(0.0, 1e-2))
def test_steps_until_a_time_are_the_fewest(wait_s: float, first_s: float, growth_s: float) -> None:
    k = steps_until(wait_s, first_s, growth_s)

    def took_s(k: int) -> float:
        return k * first_s + growth_s / 2 * k * (k - 1)

    assert took_s(k) >= wait_s
    assert k == 1 or took_s(k - 1) < wait_s
    assert math.isfinite(k)

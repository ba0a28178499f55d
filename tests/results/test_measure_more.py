"""Groups, rates of every arrival process, token counts, intervals, and the cost of measuring."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from results.client import Calibration, ClientReport, ClockAudit, WorkerReport
from results.distributions import distribution
from results.errors import UnknownMetric
from results.measure import DEFAULT_GROUP, measure_models, measure_requests, subset
from results.measure_client import measure_client
from results.measurement import Measurement, groups_of, of_group, statistic_named
from results.samples import RequestSamples
from results.testing import make_requests

Key = tuple[str, str]


def by_name(measurements: tuple[Measurement, ...], group: str = "") -> dict[Key, Measurement]:
    return {(m.metric, m.statistic): m for m in of_group(measurements, group)}


def run(n: int = 400, **changes: object) -> RequestSamples:
    """Requests answered in full, none of them warm-up."""
    base = make_requests(n, seed=5)
    clean = {
        "is_warmup": np.zeros(n, dtype=bool),
        "error": np.array([""] * n, dtype=object),
    }
    return replace(base, **(clean | changes))  # type: ignore[arg-type]


def answered_after(samples: RequestSamples, ttft_s: np.ndarray | float) -> RequestSamples:
    """``samples`` with another TTFT, and the rest of each answer a second later."""
    first = samples.intended_s + ttft_s
    return replace(samples, first_token_s=first, first_answer_s=first, done_s=first + 1.0)


def offered(intended_s: np.ndarray) -> float | None:
    samples = answered_after(run(len(intended_s), intended_s=intended_s), 0.1)
    found = by_name(measure_requests(samples, {}, 0))
    return found["offered_rate", "value"].value


def test_the_offered_rate_of_constant_arrivals_is_exact() -> None:
    assert offered(7.0 + np.arange(50) / 8.0) == pytest.approx(8.0)


def test_the_offered_rate_of_poisson_arrivals_is_the_processs() -> None:
    rng = np.random.default_rng(0)
    found = offered(np.cumsum(rng.exponential(1 / 40, 20_000)))
    assert found == pytest.approx(40, rel=3 / np.sqrt(20_000))


def test_the_offered_rate_of_a_ramp_is_its_mean() -> None:
    # Rate 2t up to t = 100: t² requests have come by t, so the k-th comes at √k.
    assert offered(np.sqrt(np.arange(10_001))) == pytest.approx(100.0)


def test_later_turns_of_sessions_are_offered_when_they_are_intended() -> None:
    starts = np.repeat(np.arange(10.0), 3)
    turns = starts + np.tile([0.0, 4.0, 8.0], 10)
    assert offered(turns) == pytest.approx(29 / 17)
    # The last turn of one session was never offered, for the turn before had failed.
    turns[5] = np.nan
    assert offered(turns) == pytest.approx(28 / 17)


def test_one_instant_has_no_rate() -> None:
    assert offered(np.full(30, 3.0)) is None
    assert offered(np.array([3.0])) is None


def test_the_first_token_of_the_answer_comes_after_the_reasoning() -> None:
    samples = replace(run(), first_answer_s=np.full(400, np.nan))  # nothing but reasoning
    found = by_name(measure_requests(samples, {}, 0))["ttfa_s", "p50"]
    assert found.value is None and "answer token" in found.reason
    thought = replace(samples, first_answer_s=samples.first_token_s + 1.5)
    measured = by_name(measure_requests(thought, {}, 0))
    ttft = samples.first_token_s - samples.intended_s
    assert measured["ttfa_s", "p50"].value == pytest.approx(np.median(ttft) + 1.5)


def test_cache_hits_are_a_share_of_the_tokens_whose_two_counts_are_known() -> None:
    samples = run(
        4, prompt_tokens=np.array([100, 100, -1, 50]), cached_tokens=np.array([64, 0, 32, -1])
    )
    found = by_name(measure_requests(samples, {}, 0))["prompt_cache_hit_share", "value"]
    assert (found.value, found.n) == (pytest.approx(64 / 200), 2)
    none = by_name(measure_requests(run(4), {}, 0))["prompt_cache_hit_share", "value"]
    assert none.value is None and none.reason


def test_token_counts_that_differ_are_a_share_of_those_that_can_be_compared() -> None:
    samples = run(
        4, output_tokens=np.array([4, 4, 4, -1]), own_output_tokens=np.array([4, 5, -1, 4])
    )
    found = by_name(measure_requests(samples, {}, 0))["token_mismatch_share", "value"]
    assert (found.value, found.n) == (pytest.approx(0.5), 2)


def test_goodput_counts_requests_and_their_tokens() -> None:
    samples = run(4, output_tokens=np.array([10, 20, 30, 40]))
    samples = answered_after(samples, np.array([0.1, 0.5, 0.1, 0.5]))
    found = by_name(measure_requests(samples, {"ttft_s": 0.2}, 0))
    window = float(samples.done_s.max() - samples.intended_s.min())
    assert found["goodput_rate", "value"].value == pytest.approx(2 / window)
    assert found["goodput_token_rate", "value"].value == pytest.approx(40 / window)
    assert found["slo_attainment", "value"].value == pytest.approx(0.5)


def test_shares_have_intervals() -> None:
    rng = np.random.default_rng(1)
    error = np.where(rng.random(2000) < 0.02, "timeout: 1 s", "").astype(object)
    found = by_name(measure_requests(run(2000, error=error), {"ttft_s": 0.1}, 0))
    for name in ("error_share", "slo_attainment"):
        m = found[name, "value"]
        assert m.value is not None and m.low is not None and m.high is not None
        assert 0 <= m.low < m.value < m.high <= 1


def test_a_measurement_says_what_its_interval_rests_on() -> None:
    values = np.random.default_rng(2).exponential(size=2000)
    mean, p50, *_, p99 = distribution("ttft_s", values)
    assert mean.low is not None and "batch means" in mean.method
    assert "order statistics" in p50.method and "independent" in p50.method
    assert p99.low is not None
    # Blocks of a hundred equal values: 2000 of them are worth about twenty.
    rough = distribution("ttft_s", np.repeat(values[::100], 100))[-1]
    assert rough.value is not None and rough.low is None
    assert "an interval needs 662" in rough.method


def test_p99_9_is_measured_where_the_samples_hold_it() -> None:
    values = np.random.default_rng(3).exponential(size=10_000)
    far = distribution("ttft_s", values)[-1]
    assert far.statistic == "p99.9"
    assert far.value == pytest.approx(np.quantile(values, 0.999))
    assert distribution("ttft_s", values[:9999])[-1].statistic == "p99"


def test_each_model_is_measured_by_itself_and_rates_add_up() -> None:
    model = np.array((["", "lora-a", "lora-a", "lora-b"] * 100), dtype=object)
    samples = run(400, model=model)
    samples = answered_after(samples, np.where(model == "lora-a", 0.3, 0.1))
    whole = by_name(measure_requests(samples, {"ttft_s": 0.2}, 4))
    parts = measure_models(samples, {"ttft_s": 0.2}, 4)
    assert groups_of(parts) == (DEFAULT_GROUP, "lora-a", "lora-b")
    assert of_group(parts) == ()
    for name, value in ((DEFAULT_GROUP, 0.1), ("lora-a", 0.3), ("lora-b", 0.1)):
        assert by_name(parts, name)["ttft_s", "p50"].value == pytest.approx(value)
    assert by_name(parts, "lora-a")["slo_attainment", "value"].value == 0.0
    for rate in ("offered_rate", "achieved_rate", "output_throughput", "goodput_rate"):
        total = sum(by_name(parts, g)[rate, "value"].value or 0 for g in groups_of(parts))
        assert total == pytest.approx(whole[rate, "value"].value), rate
    assert sum(by_name(parts, g)["itl_s", "mean"].n for g in groups_of(parts)) == (
        whole["itl_s", "mean"].n
    )


def test_one_model_is_no_group() -> None:
    assert measure_models(run(50, model=np.array(["x"] * 50, dtype=object)), {}, 0) == ()


def test_a_subset_keeps_the_events_of_its_requests() -> None:
    samples = run(10)
    rows = np.arange(10) % 3 == 0
    part = subset(samples, rows)
    assert part.num_requests == 4
    for new, old in enumerate(np.flatnonzero(rows)):
        ours = part.event_s[part.event_offset[new] : part.event_offset[new + 1]]
        theirs = samples.event_s[samples.event_offset[old] : samples.event_offset[old + 1]]
        assert list(ours) == list(theirs)
        assert part.intended_s[new] == samples.intended_s[old]


def test_rows_in_any_order_give_the_same_numbers() -> None:
    samples = run(600)
    mixed = np.random.default_rng(4).permutation(600)
    order = np.concatenate([np.arange(i * 4, i * 4 + 4) for i in mixed])
    shuffled = replace(
        samples,
        **{
            name: getattr(samples, name)[order if name.startswith("event_") else mixed]
            for name in samples.__dataclass_fields__
            if name != "event_offset"
        },
    )
    for one, other in zip(
        measure_requests(samples, {}, 0), measure_requests(shuffled, {}, 0), strict=True
    ):
        assert (one.metric, one.statistic, one.n) == (other.metric, other.statistic, other.n)
        for name in ("value", "low", "high"):
            assert getattr(one, name) == pytest.approx(getattr(other, name))


def test_measuring_takes_little_beside_the_samples() -> None:
    """A million requests of 64 tokens are 1.1 GB of samples; measuring them may take as much again
    and stay within 2 GiB. Here 20,000: 17 bytes an event are the samples', so half of that is the
    limit."""
    n, k = 20_000, 64
    base = run(n)
    times = base.first_token_s[:, None] + np.arange(k) * 0.01
    samples = replace(
        base,
        event_s=times.ravel(),
        event_tokens=np.ones(n * k, dtype=int),
        event_reasoning=np.zeros(n * k, dtype=bool),
        event_offset=np.arange(n + 1) * k,
    )
    tracemalloc.start()
    try:
        found = by_name(measure_requests(samples, {"ttft_s": 1.0}, 0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found["itl_s", "p99"].n == n * (k - 1)
    blocks = 100e6  # of a fixed size, whatever the run's
    assert peak - blocks < 8.5 * n * k


REPORT = ClientReport(
    dialect="full",
    max_in_flight=3,
    workers=tuple(
        WorkerReport(
            worker=i,
            host="a",
            num_requests=5,
            cpu_share=0.2 + 0.1 * i,
            max_loop_stall_s=0.01 / (i + 1),
            mean_loop_stall_s=0.001,
        )
        for i in range(2)
    ),
)


def test_the_clients_own_numbers_are_measurements_or_say_why_not() -> None:
    assert measure_client(None) == ()
    bare = by_name(measure_client(REPORT))
    assert bare["client_cpu_share", "value"].value == pytest.approx(0.3)
    assert bare["client_loop_stall_s", "value"].value == pytest.approx(0.01)
    assert "no receive times" in bare["client_lag_s", "p99"].reason
    assert "not calibrated" in bare["client_ceiling_rate", "value"].reason
    full = replace(
        REPORT,
        audit=ClockAudit(num_reads=90, lag_p50_s=5e-5, lag_p99_s=2e-4, lag_max_s=1e-3),
        calibration=Calibration(
            asked_rps=10,
            ceiling_rps=2000,
            ceiling_is_bound=False,
            floor_ttft_p50_s=None,
            floor_ttft_p99_s=None,
            duration_s=1.0,
            num_workers=2,
        ),
    )
    known = by_name(measure_client(full))
    assert (known["client_lag_s", "p99"].value, known["client_lag_s", "p99"].n) == (2e-4, 90)
    assert known["client_ceiling_rate", "value"].value == 2000
    assert known["client_ceiling_rate", "value"].method.startswith("at least")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ttft_p99", ("ttft_s", "p99")),
        ("ttft_s_p99.9", ("ttft_s", "p99.9")),
        ("TTFT mean", ("ttft_s", "mean")),
        ("output_throughput", ("output_throughput", "")),
        ("prompt-throughput", ("prompt_throughput", "")),
    ],
)
def test_names_of_statistics(text: str, found: tuple[str, str]) -> None:
    assert statistic_named(text) == found
    with pytest.raises(UnknownMetric, match="nearest"):
        statistic_named("ttfs_p99")

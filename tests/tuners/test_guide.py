"""Proposals in worlds with a known best: around a forecast, against one, beside running trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tuners.encoding import encoded, neighbours, owners, placed
from tuners.goals import Bound, Goal, Reading, Wish
from tuners.guide import Guide, Known, is_guided
from tuners.outcome import Stopped
from tuners.seeds import Seeder, key
from tuners.space import Branch, Categorical, Config, Integers, Knob, Ordinal, Reals, Space

WISH = Wish(
    goals=(Goal(metric="output_throughput"),),
    bounds=(Bound(metric="ttft_s", statistic="p99", limit=0.5, margin=0.0),),
)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
(BRANCH,) = Space(
    knobs=(
        Knob(path="seqs", domain=Ordinal(values=SIZES)),
        Knob(path="tokens", domain=Ordinal(values=SIZES)),
        Knob(path="kind", domain=Categorical(values=("a", "b", "c"))),
    )
).branches()


def size(config: Config, name: str) -> float:
    return float(str(config[name]))


def truth(config: Config) -> Reading:
    """More of both is faster, more sequences are later: the best has 32 and 128, of kind b."""
    speed = size(config, "seqs") ** 0.7 * size(config, "tokens") ** 0.2
    late = 0.08 * size(config, "seqs") ** 0.5
    return Reading(
        goals={"output_throughput": speed * (1.3 if config["kind"] == "b" else 1.0)},
        bounds={"ttft_s_p99": late},
    )


def told(config: Config) -> Mapping[str, float]:
    """A forecast: half as late and thrice as fast as the truth, and blind to the kind."""
    plain = truth({**config, "kind": "a"})
    return {
        "output_throughput": 3.0 * plain.goals["output_throughput"],
        "ttft_s_p99": 0.5 * plain.bounds["ttft_s_p99"],
    }


def upside_down(config: Config) -> Mapping[str, float]:
    """The more sequences the slower, and the earlier."""
    other = {**config, "seqs": SIZES[::-1][SIZES.index(int(size(config, "seqs")))]}
    return told(other)


def guide(predict: object, wish: Wish = WISH, branch: Branch = BRANCH) -> Guide:
    forecasts = predict is not None
    seeder = Seeder(branch, wish, predict or (lambda _: {}), forecasts=forecasts)  # type: ignore[arg-type]
    return Guide(branch, wish, seeder)


def searched(ours: Guide, num_trials: int) -> list[Config]:
    measured: list[tuple[Config, Reading]] = []
    for _ in range(num_trials):
        taken = [config for config, _ in measured]
        config = ours.propose(Known(measured=measured, taken=taken))
        assert config is not None
        assert key(config) not in {key(c) for c in taken}
        measured.append((config, truth(config)))
    return [config for config, _ in measured]


BEST = {"seqs": 32, "tokens": 128, "kind": "b"}


@pytest.mark.parametrize(
    ("predict", "within"),
    [(told, 8), (None, 20), (upside_down, 20)],
    ids=["forecast", "none", "upside down"],
)
def test_the_known_best_is_found(predict: object, within: int) -> None:
    assert key(BEST) in {key(config) for config in searched(guide(predict), within)}


def test_trials_at_once_are_of_different_worlds() -> None:
    """What runs is imagined to end well and badly: the batch bets on more than one factor."""
    ours, running = guide(told), list[Config]()
    for _ in range(4):
        config = ours.propose(Known(running=running))
        assert config is not None
        running.append(config)
    assert len({key(c) for c in running}) == 4
    assert len({c["seqs"] for c in running}) >= 2


def test_what_is_foreseen_or_failed_is_avoided() -> None:
    def predict(config: Config) -> Mapping[str, float] | str:
        return "too much" if size(config, "seqs") > 16 else told(config)

    ours = guide(predict)
    first = ours.propose(Known())
    assert first is not None
    assert size(first, "seqs") <= 16
    failed = [c for c in BRANCH.grid() if size(c, "tokens") >= 32 and size(c, "seqs") in (4, 16)]
    measured = [
        (c, truth(c)) for c in BRANCH.grid() if size(c, "tokens") in (1, 8) and c["seqs"] == 8
    ]
    taken = [*failed, *(c for c, _ in measured)]
    config = ours.propose(Known(measured=measured, failed=failed, taken=taken))
    assert config is not None
    assert size(config, "tokens") < 32


def test_a_forecast_whose_picks_fail_is_left_until_something_keeps_its_limits() -> None:
    """It would ask for 128 and 128 of the third kind. What is asked instead spreads, and a
    measurement that breaks its limit does not bring the forecast back."""
    ours = guide(told)
    failed: list[Config] = [{"seqs": 128, "tokens": 128, "kind": kind} for kind in ("a", "b")]
    late: Config = {"seqs": 64, "tokens": 1, "kind": "a"}
    for measured in ([], [(late, truth(late))]):
        taken, asked = [*failed, *(c for c, _ in measured)], list[Config]()
        for _ in range(3):
            config = ours.propose(Known(measured=measured, failed=failed, taken=[*taken, *asked]))
            assert config is not None
            asked.append(config)
        assert max(size(c, "seqs") * size(c, "tokens") for c in asked) < 128 * 128
        assert len({c["seqs"] for c in asked}) == 3
    good: Config = {"seqs": 8, "tokens": 8, "kind": "a"}
    kept = Known(measured=[(good, truth(good))], failed=failed, taken=[good, *failed])
    assert ours.propose(kept) not in asked


def test_everything_known_leaves_nothing() -> None:
    every = list(BRANCH.grid())
    measured = [(config, truth(config)) for config in every[:20]]
    assert guide(told).propose(Known(measured=measured, taken=every)) is None


def test_a_lucky_reading_is_not_ranked_first() -> None:
    """Twice what its neighbours promise is more luck than merit; what is late is not ranked."""
    measured = [
        (config, truth(config))
        for config in BRANCH.grid()
        if config["kind"] == "a" and config["tokens"] in (8, 64) and size(config, "seqs") >= 4
    ]
    lucky = {"seqs": 8, "tokens": 8, "kind": "a"}
    fast = Reading(
        goals={"output_throughput": 1.25 * truth({**lucky, "seqs": 32}).goals["output_throughput"]},
        bounds=truth(lucky).bounds,
    )
    measured = [(c, fast if key(c) == key(lucky) else r) for c, r in measured]
    ranked = guide(told).ranked(Known(measured=measured))
    assert ranked[0][1] == {"seqs": 32, "tokens": 64, "kind": "a"}
    assert all(size(config, "seqs") <= 32 for _, config, _ in ranked)
    assert all(a[0] >= b[0] for a, b in pairwise(ranked))


def test_what_a_probe_ruled_out_is_believed_and_never_ranked() -> None:
    """It turns the search away as a reading would, whatever the forecast says of it."""
    taken: list[Config] = [{"seqs": n, "tokens": 64, "kind": "a"} for n in (2, 4, 8, 16, 32)]
    read = [(config, truth(config)) for config in taken[:2]]
    late = Reading(goals={"output_throughput": 1.0}, bounds={"ttft_s_p99": 5.0})
    ruled_out = [(config, late) for config in taken[2:]]
    known = Known(measured=read, ruled_out=ruled_out, taken=taken)
    as_read = Known(measured=[*read, *ruled_out], taken=taken)
    assert guide(told).propose(known) == guide(told).propose(as_read)
    assert guide(told).propose(known) != guide(told).propose(Known(measured=read, taken=taken))
    assert {key(c) for _, c, _ in guide(told).ranked(known)} <= {key(c) for c, _ in read}


def test_a_probe_that_left_something_open_is_no_reading() -> None:
    at_best = truth({"seqs": 8, "tokens": 8, "kind": "a"})
    whole = Stopped(rule="goal", why="", goals=at_best.goals, bounds=at_best.bounds)
    assert whole.reading(WISH) == at_best
    assert replace(whole, goals={}).reading(WISH) is None
    assert replace(whole, bounds={}).reading(WISH) is None


def test_several_goals_are_pushed_in_turn() -> None:
    wish = Wish(
        goals=(Goal(metric="output_throughput"), Goal(metric="ttft_s", statistic="p99")),
    )
    ours, measured = guide(None, wish), list[tuple[Config, Reading]]()
    for _ in range(14):
        config = ours.propose(Known(measured=measured, taken=[c for c, _ in measured]))
        assert config is not None
        found = truth(config)
        both = {**found.goals, **found.bounds}
        measured.append((config, Reading(goals=both, bounds={})))
    asked = {size(config, "seqs") for config, _ in measured}
    assert min(asked) == 1.0
    assert max(asked) == 128.0


def test_a_wide_branch_is_sampled_and_searched_near_the_best() -> None:
    (wide,) = Space(
        knobs=(
            Knob(path="rate", domain=Reals(low=0.01, high=1.0, log=True)),
            Knob(path="steps", domain=Integers(low=1, high=64)),
            Knob(path="kind", domain=Categorical(values=("a", "b"))),
        )
    ).branches()
    start = placed(wide, [0.5, 0.5, 0.9])
    assert start["rate"] == pytest.approx(0.1)
    near = list(neighbours(wide, start))
    assert {c["kind"] for c in near} == {"a", "b"}
    assert all(wide.holds(c) for c in near)
    rows = encoded(wide, [start, *near])
    assert rows.shape == (1 + len(near), 4)
    assert owners(wide).tolist() == [0, 1, 2, 2]
    assert rows[0, 0] == pytest.approx(0.5)
    assert np.linalg.norm(rows[0, 2:] - encoded(wide, [{**start, "kind": "a"}])[0, 2:]) == (
        pytest.approx(1.0)
    )


def test_only_auto_within_the_budget_is_guided() -> None:
    assert is_guided("auto", 30)
    assert not is_guided("auto", 1000)
    assert not is_guided("gp", 30)

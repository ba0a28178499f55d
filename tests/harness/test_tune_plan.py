"""What a study says it will do and cost, against arithmetic by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from harness.cli.study_tables import describe_config
from harness.cli.tune_cost import check_budget, trial_time
from harness.cli.tune_plan import StudyPlan, plan_document, plan_lines, study_plan
from harness.errors import SpecError
from harness.pools import Capacity
from harness.spec import Hardware, RunSpec
from harness.specfile import spec_from_mapping, spec_to_mapping
from results.prices import PriceTable
from results.record import RunRecord
from results.testing import make_record
from tuners.calibration import Calibration, Factor
from tuners.calibration import Hardware as Hardware_
from tuners.goals import Goal, Wish
from tuners.loop import Budget
from tuners.predict import Foresight
from tuners.prior import Prior
from tuners.space import Config, Knob, Ordinal, Space
from tuners.transfer import Transferred

SEQS = "workload.engine_args.max-num-seqs"
SPACE = Space(knobs=(Knob(path=SEQS, domain=Ordinal(values=(None, 4, 8, 16))),))
WISH = Wish(goals=(Goal(metric="output_throughput"),))
PRICES = PriceTable(
    as_of=date(2026, 11, 1),
    source="a contract",
    usd_per_chip_hour={"H100": {"on-demand": 6.0, "spot": 2.0}},
)


def base(**changes: Any) -> RunSpec:
    spec = spec_from_mapping(
        {
            "name": "chat",
            "workload": {"kind": "vllm", "model": "some/model", "tensor_parallel_size": 2},
            "traffic": {
                "arrivals": {"kind": "poisson", "rate_rps": 4.0},
                "prompt_tokens": {"kind": "fixed", "tokens": 8},
                "output_tokens": {"kind": "fixed", "tokens": 4},
                "duration_s": 60,
            },
            "hardware": [{"accelerator": "H100", "capacity": ["on-demand", "spot"]}],
        }
    )
    return replace(spec, **changes)


def past(spec: RunSpec, duration_s: float) -> RunRecord:
    return make_record(spec=spec_to_mapping(spec), duration_s=duration_s)


def forecast(config: Config) -> Mapping[str, float] | str:
    seqs = config[SEQS] or 2
    assert isinstance(seqs, int)
    return "90.0 of 80.0 GiB" if seqs > 8 else {"output_throughput": 10.0 * seqs}


def plan(**changes: Any) -> StudyPlan:
    spec = changes.pop("base", base())
    arguments: dict[str, Any] = {
        "name": "study",
        "base": spec,
        "branches": SPACE.branches(),
        "wish": WISH,
        "foresight": Foresight(predict=forecast),
        "prior": Prior(),
        "spec_of": lambda config: spec,
        "budget": Budget(num_trials=10),
        "top": 2,
        "max_repeats": 5,
        "num_seeds": 8,
        "seed": 0,
        "prices": PRICES,
        "past": [past(base(), s) for s in (90.0, 120.0, 400.0)],
        "storage": "studies/study.journal",
    }
    return study_plan(**{**arguments, **changes})


def said(made: StudyPlan) -> str:
    return "\n".join(plan_lines(made, describe_config, WISH))


def test_runs_hours_and_money_are_counted() -> None:
    made = plan()
    # The best 2 and the baseline beside them: 3 × 3 to 3 × 5 runs.
    assert (made.num_remeasured_least, made.num_remeasured_most) == (9, 25)
    assert made.trial.expected_s == 120.0  # the median of runs with the same traffic
    assert (made.wall_s_low, made.wall_s_high) == (19 * 120.0, 35 * 120.0)
    assert (made.chips_low, made.chips_high) == (2, 2)
    assert made.chip_hours_low == pytest.approx(19 * 120 * 2 / 3600)
    assert made.usd_low == pytest.approx(19 * 120 * 2 / 3600 * 2.0)
    assert made.usd_high == pytest.approx(35 * 120 * 2 / 3600 * 6.0)
    assert "2.53 to 14.00 USD" in said(made)
    assert plan(num_parallel=4).wall_s_low == 19 * 30.0


def started(duration_s: float, ready_s: float, waited_s: float = 0.0) -> RunRecord:
    made = past(base(), duration_s)
    assert made.startup is not None
    turn = {"turn": {"waited_s": waited_s, "came_at": made.started_at.isoformat()}}
    startup = replace(made.startup, ready_s=ready_s)
    return replace(made, startup=startup, resolved={"observed": turn})


@pytest.mark.parametrize(
    ("start_s", "pace_s"),
    [
        (70.0, 60.0),  # 120 s of which 50 are load: two at once are what bounds it
        (60.0, 60.0),  # one starts while the other is loaded, and neither waits
        (40.0, 80.0),  # the loads follow each other without a gap
        (0.0, 120.0),  # nothing is gained where there is no start
    ],
)
def test_a_start_beside_a_load_shortens_a_study_as_far_as_the_loads_allow(
    start_s: float, pace_s: float
) -> None:
    made = plan(past=[started(120.0, start_s)], num_parallel=2, num_loads=1)
    assert made.trial.expected_s == 120.0
    assert made.wall_s_low == pytest.approx(19 * pace_s)
    # Two places are held all the time, of two chips each.
    assert made.chip_hours_low == pytest.approx(19 * pace_s * 2 * 2 / 3600)
    assert made.waits_s == pytest.approx(2 * pace_s - 120.0)
    assert ("of each trial, ready, for its turn" in said(made)) == (pace_s > 60.0)
    # Its budget ends with the wall time that it really takes.
    short = plan(
        past=[started(120.0, start_s)],
        num_parallel=2,
        num_loads=1,
        budget=Budget(num_trials=10, wall_s=4 * pace_s),
    )
    assert short.reached_first.endswith("after about 4 trials")


def test_what_earlier_runs_waited_for_their_turn_is_no_part_of_a_trial() -> None:
    assert trial_time(base(), [started(150.0, 40.0, waited_s=30.0)]).expected_s == 120.0


def test_seeds_come_best_first_and_what_cannot_fit_is_counted_and_told() -> None:
    (branch,) = plan().branches
    assert [s.config[SEQS] for s in branch.seeds] == [8, 4, None]
    assert (branch.num_fit, branch.num_looked_at) == (3, 4)
    text = said(plan())
    assert "3 of 4 looked at may run; 1 foreseen not to: 90.0 of 80.0 GiB" in text
    assert "first 1: max-num-seqs=8  →  output_throughput 80.0 tokens/s" in text


def test_without_a_forecast_what_cannot_run_is_foreseen_all_the_same() -> None:
    def may_run(config: Config) -> Mapping[str, float] | str:
        found = forecast(config)
        return found if isinstance(found, str) else {}

    made = plan(foresight=Foresight(predict=may_run, why_no_forecast="the model is not known"))
    (branch,) = made.branches
    assert (branch.num_fit, branch.seeds) == (3, ())
    assert "no forecast, so no first trials: the model is not known" in said(made)
    assert "1 foreseen not to: 90.0 of 80.0 GiB" in said(made)


def test_what_earlier_runs_know_is_told() -> None:
    """By hand: 4 is forecast at 40; scored again by what it showed elsewhere, 95 is the most."""
    here = Hardware_(accelerator="H100", evidence="measured")
    there = Hardware_(accelerator="L4", evidence="measured")
    winner = Transferred(
        config={SEQS: 4}, hardware=there, run_id="r1", expected={"output_throughput": 95.0}
    )
    factor = Factor(ratio=0.5, spread=0.1, num_configs=7)
    known = Prior(
        calibration=Calibration(hardware=here, factors={"output_throughput": factor}),
        elsewhere={"": (winner,)},
    )
    made = plan(prior=known, dropped=("seqs is not of this engine",))
    (branch,) = made.branches
    assert [(s.config[SEQS], s.won_on) for s in branch.seeds] == [
        (4, "L4"),
        (8, None),
        (None, None),
    ]
    assert [s.evidence for s in branch.seeds] == ["transferred", "analytic", "analytic"]
    assert branch.num_from_elsewhere == 1
    text = said(made)
    assert "first 1: max-num-seqs=4 (it won on L4, scored again)" in text
    assert (
        "calibrated: output_throughput 0.50 times the forecast, by 7 configurations on H100" in text
    )
    assert "left out: seqs is not of this engine" in text
    document = plan_document(made, WISH)
    assert document["calibration"]["measured_over_forecast"]["output_throughput"]["ratio"] == 0.5


def test_nothing_known_is_said_to_be_not_known() -> None:
    made = plan(past=[], prices=None)
    assert made.wall_s_low is None
    assert made.usd_low is None
    text = said(made)
    assert "no earlier run of this model here" in text
    assert "no price known: no price table was given" in text
    # Every deadline of 10 trials and 25 re-measurements.
    deadlines = base().deadlines
    at_most = deadlines.startup_s + deadlines.load_s + deadlines.teardown_s
    assert made.trial.at_most_s == at_most
    assert f"{35 * at_most / 3600:.1f} h at most" in text
    priced_elsewhere = replace(PRICES, usd_per_chip_hour={"L4": {"spot": 0.3}})
    assert "not of H100 on-demand, H100 spot" in said(plan(prices=priced_elsewhere))
    half = replace(PRICES, usd_per_chip_hour={"H100": {"spot": 2.0}})
    assert "(not of H100 on-demand)" in said(plan(prices=half))


def test_a_run_with_another_window_counts_by_what_it_took_beside_its_load() -> None:
    traffic = base().traffic
    assert traffic is not None
    longer = base(traffic=replace(traffic, duration_s=300.0))
    assert trial_time(base(), [past(longer, 345.0)]).expected_s == 60.0 + 45.0
    # A load that ends by a number of requests says nothing about another's length.
    counted = base(traffic=replace(traffic, duration_s=300.0, num_requests=9))
    assert trial_time(base(), [past(counted, 345.0)]).expected_s is None


@pytest.mark.parametrize(
    ("budget", "first"),
    [
        (Budget(num_trials=10), "10 trials"),
        (Budget(num_trials=10, wall_s=600.0), "600 s, after about 5 trials"),
        (Budget(num_trials=10, chip_hours=0.2), "0.2 chip-hours, after about 3 trials"),
        (Budget(num_trials=10, usd=0.8, wall_s=9000.0), "0.8 USD, after about 2 trials"),
    ],
)
def test_the_limit_that_is_reached_first_is_named(budget: Budget, first: str) -> None:
    """A trial is 120 s on two chips: 1/15 chip-hour, 0.40 USD at the dearest."""
    made = plan(budget=budget)
    assert made.reached_first == first
    assert len(made.budget) == 1 or f"reached first: {first}" in said(made)
    assert plan(budget=Budget(num_trials=10, wall_s=600.0), past=[]).reached_first == ""


def test_a_limit_that_would_never_be_reached_is_refused() -> None:
    on_cpus = base(hardware=(Hardware(),))
    with pytest.raises(SpecError, match="asks for no chips"):
        check_budget(on_cpus, Budget(num_trials=3, chip_hours=1.0), PRICES)
    with pytest.raises(SpecError, match="asks for no chips"):
        check_budget(on_cpus, Budget(num_trials=3, usd=1.0), PRICES)
    with pytest.raises(SpecError, match="--prices FILE"):
        check_budget(base(), Budget(num_trials=3, usd=1.0), None)
    check_budget(base(), Budget(num_trials=3, usd=1.0, chip_hours=1.0), PRICES)
    check_budget(on_cpus, Budget(num_trials=3, wall_s=60.0), None)
    on_demand = base(hardware=(Hardware(accelerator="H100", capacity=(Capacity.RESERVATION,)),))
    half = replace(PRICES, usd_per_chip_hour={"H100": {"spot": 2.0}})
    with pytest.raises(SpecError, match="not of H100 on-demand"):
        check_budget(base(), Budget(num_trials=3, usd=1.0), half)
    with pytest.raises(SpecError, match="virtual pools"):
        check_budget(base(), Budget(num_trials=3, usd=1.0), PRICES, virtual=True)
    with pytest.raises(SpecError, match="H100 reservation"):
        check_budget(on_demand, Budget(num_trials=3, usd=1.0), PRICES)


def test_the_document_is_whole() -> None:
    document = plan_document(plan(), WISH)
    assert document["goals"] == ["output_throughput"]
    assert document["budget"] == {"num_trials": 10}
    assert document["trial"]["why"] == "by the median of 3 earlier runs of it"

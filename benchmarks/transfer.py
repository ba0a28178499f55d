"""What winners of one chip are worth on another, where both were measured.

    python -m benchmarks.transfer

AIConfigurator's public sample has Llama-3.1-70B in fp8 under vLLM on H200 and on H100, at the same
parallelism and load. For each limit on the time per token the ten best of H200 are taken to H100:
as they are, and as ``tuners.transfer`` scores them again. The truth is what H100 was measured at.
Figures imported from that sample; nothing here is a measurement of ours.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli.tune_runs import configured
from harness.spec import Hardware as Ask
from harness.spec import RunSpec
from tuners import calibration
from tuners.calibration import Hardware, Seen
from tuners.goals import Bound, Goal, Wish
from tuners.predict import forecasts_of
from tuners.seeds import key
from tuners.space import Branch, Config, Knob, Ordinal, Space
from tuners.transfer import transferred
from workloads.params import VllmWorkload
from workloads.traffic.spec import ClosedLoop, FixedLength, Traffic

SAMPLE = (
    Path(__file__).resolve().parents[2] / "shared" / "data" / "aiconfigurator_silicon_sample.csv"
)
MODEL = "meta-llama/Llama-3.1-70B"
GOAL, TPOT = "output_throughput_per_chip", "tpot_s_p50"
LENGTHS = ((1024, 1024), (1024, 8192), (8192, 1024))
LIMITS_S = (0.012, 0.015, 0.02, 0.025, 0.03, 0.04)
MARGIN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How many of H200's best were taken over, and how many of those break the limit on H100."""

    lengths: tuple[int, int]
    limit_s: float
    copied: int
    copied_broken: int
    rescored: int
    rescored_broken: int


def specs(sample: Path, system: str, chip: str) -> Iterator[tuple[RunSpec, float, float]]:
    """Each measured row as a spec, with its tokens/s a chip and its time per token."""
    with sample.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            ours = (row["model_path"], row["backend"], row["mode"], row["precision"])
            if ours != (MODEL, "vllm", "agg", "fp8") or row["system"] != system:
                continue
            tp, users = int(row["tp_size"]), int(row["batch_size"])
            tpot_s = float(row["silicon_tpot_ms"]) / 1e3
            e2e_s = float(row["silicon_ttft_ms"]) / 1e3 + tpot_s * int(row["osl"])
            spec = _spec(chip, tp, users, int(row["isl"]), int(row["osl"]))
            yield spec, users * int(row["osl"]) / e2e_s / tp, tpot_s


def _spec(chip: str, tp: int, users: int, isl: int, osl: int) -> RunSpec:
    arguments = {
        "quantization": "fp8",
        "max-model-len": isl + osl,
        "max-num-seqs": 1024,
        "max-num-batched-tokens": 8192,
    }
    return RunSpec(
        name="sample",
        workload=VllmWorkload(model=MODEL, tensor_parallel_size=tp, engine_args=arguments),
        traffic=Traffic(
            arrivals=ClosedLoop(num_users=users),
            prompt_tokens=FixedLength(tokens=isl),
            output_tokens=FixedLength(tokens=osl),
            duration_s=60.0,
        ),
        hardware=(Ask(accelerator=chip),),
    )


def seen_of(spec: RunSpec, throughput: float, tpot_s: float) -> Seen | None:
    forecast = forecasts_of(spec)
    hardware = calibration.hardware_of(spec, "imported")
    if isinstance(forecast, str) or not forecast or hardware is None:
        return None
    values = {GOAL: throughput, TPOT: tpot_s}
    ratios = {GOAL: throughput / forecast[GOAL], TPOT: tpot_s / forecast["tpot_s"]}
    return Seen(hardware=hardware, spec=spec, run_id="", values=values, ratios=ratios)


def compared(sample: Path) -> Iterator[Row]:
    there = [s for row in specs(sample, "h200_sxm", "H200") if (s := seen_of(*row))]
    truth = list(specs(sample, "h100_sxm", "H100"))
    for lengths in LENGTHS:
        base = _spec("H100", 4, 16, *lengths)
        branch = _branch()
        known = {
            key(config): tpot_s
            for spec, _, tpot_s in truth
            if _lengths(spec) == lengths and (config := _config(spec)) is not None
        }
        mine = [s for s in there if _lengths(s.spec) == lengths and key(_config(s.spec)) in known]
        for limit_s in LIMITS_S:
            yield _row(base, branch, mine, known, lengths, limit_s)


def _row(
    base: RunSpec,
    branch: Branch,
    there: Sequence[Seen],
    truth: dict[object, float],
    lengths: tuple[int, int],
    limit_s: float,
) -> Row:
    bound = Bound(metric="tpot_s", statistic="p50", limit=limit_s, margin=MARGIN)
    wish = Wish(goals=(Goal(metric=GOAL),), bounds=(bound,))

    def predict(config: Config) -> dict[str, float] | str:
        found = forecasts_of(configured(base, config))
        if isinstance(found, str) or not found:
            return "no forecast"
        return {GOAL: found[GOAL], TPOT: found["tpot_s"]}

    h100 = Hardware(accelerator="H100", evidence="imported")
    usual = calibration.calibrations(there)
    found = transferred(there, branch, wish, predict, h100, usual, base)
    # Nothing is known of H100 yet: the factor of H200 is taken, as a study does.
    (factor,) = (c.ratios()[TPOT] for c in usual.values())
    kept = [t for t in found if bound.slack(t.expected[TPOT] * factor) <= 0]
    return Row(
        lengths=lengths,
        limit_s=limit_s,
        copied=len(found),
        copied_broken=sum(truth[key(t.config)] > limit_s for t in found),
        rescored=len(kept),
        rescored_broken=sum(truth[key(t.config)] > limit_s for t in kept),
    )


def _branch() -> Branch:
    knobs = (
        Knob(path="workload.tensor_parallel_size", domain=Ordinal(values=(1, 2, 4, 8))),
        Knob(
            path="traffic.arrivals.num_users",
            domain=Ordinal(values=tuple(2**k for k in range(12))),
        ),
    )
    return Space(knobs=knobs).branches()[0]


def _config(spec: RunSpec) -> Config:
    assert isinstance(spec.workload, VllmWorkload)
    assert spec.traffic is not None
    assert isinstance(spec.traffic.arrivals, ClosedLoop)
    return {
        "workload.tensor_parallel_size": spec.workload.tensor_parallel_size,
        "traffic.arrivals.num_users": spec.traffic.arrivals.num_users,
    }


def _lengths(spec: RunSpec) -> tuple[int, int]:
    assert spec.traffic is not None
    prompt, output = spec.traffic.prompt_tokens, spec.traffic.output_tokens
    assert isinstance(prompt, FixedLength)
    assert isinstance(output, FixedLength)
    return prompt.tokens, output.tokens


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--sample", type=Path, default=SAMPLE)
    given = parser.parse_args(argv)
    if not given.sample.is_file():
        print(f"there is no {given.sample}; name one with --sample", file=sys.stderr)  # noqa: T201
        return 2
    rows = list(compared(given.sample))
    print("| lengths | limit | copied | broken | scored again | broken |")  # noqa: T201
    print("| --- | --- | --- | --- | --- | --- |")  # noqa: T201
    for row in rows:
        print(  # noqa: T201
            f"| {row.lengths[0]}/{row.lengths[1]} | {row.limit_s * 1e3:g} ms | {row.copied} | "
            f"{row.copied_broken} | {row.rescored} | {row.rescored_broken} |"
        )
    total = [sum(getattr(row, name) for row in rows) for name in ("copied", "copied_broken")]
    again = [sum(getattr(row, name) for row in rows) for name in ("rescored", "rescored_broken")]
    print(f"| all | | {total[0]} | {total[1]} | {again[0]} | {again[1]} |")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

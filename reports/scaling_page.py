"""The page on scaling, with the errors of the extrapolation on public data, made from the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from results.scaling.extrapolate import (
    ASSUMED_SPREAD,
    MIN_SIZES,
    REFUSED_BEYOND,
    WIDENED_BEYOND,
    curve_of,
    extrapolate,
)
from results.scaling.models import MODELS
from results.scaling.public import Checked, PublicTable, check, public_table

_MAXTEXT_DOMAIN = 256
_MAXTEXT_FITTED = 2048
_MPT_FITTED = 64
_HOST_OF_8 = 8
_LARGEST_JOB = 50_944  # of the v5e job that Google announced in November 2023

_HEAD = """# Scaling

Made from the code by `make docs`; a test keeps it equal.

```
windtunnel scale examples/scaling.yaml --workers 1,2,4 --repeats 5 --predict 8,16
windtunnel scale SPEC --workers 1,2,4 --mode strong --json --out scaling.json
```

`scale` takes one training spec, makes a spec of it for every size, and runs them like any other:
one record per run, all under one experiment id. It prints a table, writes a page that opens
offline, and with `--picture` the curve alone. It needs a workload with `num_workers`.

## What is measured

- **weak**: the work per worker stays as the spec has it. Efficiency is (throughput per worker at
  n) / (at n₀).
- **strong**: the sequences of a step (num_workers × micro_batch_size of the spec) stay the same
  and are shared by more workers. Efficiency is T(n₀)·n₀ / (T(n)·n). A size that cannot share them
  evenly is refused, and the sizes that can are named.
- n₀ is the smallest size with a usable run. The rule and n₀ stand beside every table.
- Rounds are interleaved, and every second one goes backwards (1, 2, 4, 4, 2, 1, …). A size is
  compared with n₀ within its own round, so that what drifts between rounds cancels. The run is
  the unit: the 95 % interval is Student's t over the rounds' log-ratios. One round has no
  interval.
- Startup is no part of the efficiency, which speaks of steps. It stands in a column of its own.

## Contention is not scaling loss

Where ranks share cores, adding ranks slows each of them even if they never talk. On CPUs every
size above one is therefore also run as a *control*: the same ranks on the same cores, each
training alone (`communication: none`). `--control` and `--no-control` decide otherwise. Then the
efficiency has two factors, each with an interval:

- *control alone*, K: the control's throughput per worker against n₀. What the host takes.
- *run / control*, R: the run against the control of the same size. What training together takes.
  With a machine per rank this is the part that would be left.

## Where the loss went

1 − efficiency is divided into parts that add up to it:

- *host contention*: 1 − K. Only with a control.
- *waiting for data*, *imbalance*: from the steps, beyond what they were at n₀. Imbalance is what
  the slowest rank of a step took longer than the mean; where communication was timed, that is
  taken off first, because ranks wait for a slow peer inside the exchange.
- *communication*: timed in the steps where the workload times it; else what the run lost against
  its control, less the above.
- *not attributed*: the rest. Without timing and without a control, communication is in here.

## Going on

Ctrl-C ends the run under way, tells what is known and prints the experiment's id. The same
command with `--resume ID` makes what is missing; runs that failed are made again. Sizes and
rounds may be added.

## Extrapolation
"""


def scaling_page() -> str:
    parts = [_HEAD, _rules(), *_models(), "", *_checked(), *_torchtitan(), *_far()]
    return "\n".join(parts) + "\n"


def _rules() -> str:
    return f"""`--predict 64,256` asks for sizes that were not measured.

- At least {MIN_SIZES} sizes must be measured. Each model is fitted by non-negative least squares
  without the largest size and asked for it. How far it misses there, against the mean loss per
  doubling and the noise, is its vote; models that fit alike share one vote.
- The prediction is the mean of the models by their votes. The nearest one is named too, but with
  a handful of sizes several laws fit alike and part ways beyond. In simulations the nearest alone
  is as good where the truth is a law of the list, or one that bends beyond the data; where it is
  another law the mean errs less (a test keeps that true). So it does below.
- The 90 % interval holds what a run at that size would show. It has four parts: the
  fitted parameters vary with the data's noise; the models differ; the law itself may drift, by
  half of what the models missed at the held-out size for every doubling beyond the data; and a
  new run has noise of its own. It held in 93 to 99 of 100 simulations at twice and four times the
  largest size, those that bend included: it is rather too wide than too narrow.
- With a control, *run / control* is extrapolated: what the host takes says nothing about more
  hosts. Where ranks shared cores and there is no control, nothing is predicted.
- With one run per size the spread between runs is not known: {ASSUMED_SPREAD * 100:g} % is
  assumed. Where no model comes that near to the data, the spread is raised until the best one
  does (Birge's ratio).
- Beyond {WIDENED_BEYOND:g} times the largest size measured, drift counts double; beyond
  {REFUSED_BEYOND:g} times there is no prediction.
- `--domain` says how many workers share the fast network (an NVLink host or rack, a TPU slice).
  Where no measured size leaves it, a prediction outside is refused: what leaving costs was never
  seen. Other changes of regime that small runs cannot show are named with every prediction: a
  network that saturates with many slices, pipeline bubbles, a batch that must shrink.

m is n/n₀; d is the number of fast domains, or m where their size is not known; a *step* is paid
once, by the first size that has a peer or leaves the domain. In strong mode the terms of `ring`,
`tree` and the `two_level` models are multiplied by m, because a chip's own work shrinks while
they do not.
"""


def _models() -> Iterator[str]:
    yield "| model | efficiency |\n|---|---|"
    for model in MODELS:
        yield f"| `{model.name}` | {model.formula} |"


def _checked() -> Iterator[str]:
    yield "## Checked against public data\n"
    maxtext, mpt = public_table("maxtext_v5e"), public_table("mpt_a100")
    found = tuple(check(maxtext, _MAXTEXT_FITTED, _MAXTEXT_DOMAIN))
    yield f"### MaxText, TPU v5e\n\n{maxtext.about}\n"
    yield f"Fitted on 1 to 8 slices of {_MAXTEXT_DOMAIN} chips, asked for 16 and 32.\n"
    yield from _table(found)
    inner = [c for c in found if c.series != "128B"]
    outside = [c for c in found if not c.is_inside]
    yield (
        f"\nMean absolute error of 16B, 32B and 64B: {_points(inner)}; of the nearest model alone "
        f"{_points_of_nearest(inner)}; of all four {_points(found)}. The observed efficiency is "
        f"inside the interval in {len(found) - len(outside)} of {len(found)} cases.\n"
    )
    yield (
        "What is missed: at 32 slices the loss grows faster than up to 8 slices showed, and all "
        "series but 128B are predicted too high there. The 128B series bends: its interval is wide "
        "because the models disagree. The list of models was drawn up with this table in view "
        "(above all the step for leaving a slice), so this is a check and not a blind test.\n"
    )
    blind = tuple(check(mpt, _MPT_FITTED, _HOST_OF_8))
    yield f"### MPT, A100\n\n{mpt.about}\n"
    yield (
        "Fitted on 16, 32 and 64 GPUs, asked for 128. Added after the models were drawn up; since "
        "it was first seen, two rules came: the spread is raised where no model fits within the "
        "noise, and nothing is predicted above 100 %.\n"
    )
    yield from _table(blind)
    yield f"\nMean absolute error: {_points(blind)}.\n"


def _table(found: Sequence[Checked]) -> Iterator[str]:
    yield "| series | chips | observed | predicted | 90 % interval | error | nearest | its error |"
    yield "|---|---|---|---|---|---|---|---|"
    for c in found:
        p = c.predicted
        inside = "" if c.is_inside else " (missed)"
        yield (
            f"| {c.series} | {c.chips:,} | {_share(c.observed)} | {_share(p.efficiency)} | "
            f"{_share(p.low)} to {_share(p.high)}{inside} | {_signed(c.error)} | "
            f"`{c.further.chosen}` | {_signed(c.error_of(c.further.chosen))} |"
        )


def _torchtitan() -> Iterator[str]:
    table = public_table("torchtitan_h100")
    yield f"### torchtitan, H100\n\n{table.about}\n"
    yield "| series | 8 | 128 | efficiency |\n|---|---|---|---|"
    for name, seen in table.series.items():
        first, last = seen[8], seen[128]
        yield f"| {name} | {first:,.0f} | {last:,.0f} | {_share(last / first)} |"
    known = [(float(n), [y]) for n, y in table.series["FSDP"].items()]
    refused = extrapolate(curve_of(known), [512], domain=_HOST_OF_8)
    yield f"\nAsked for more, the extrapolation refuses: *{refused.reason}*.\n"


def _far() -> Iterator[str]:
    table: PublicTable = public_table("maxtext_v5e")
    yield f"## {_LARGEST_JOB:,} chips\n"
    yield (
        f"All six sizes of MaxText's table, asked for {_LARGEST_JOB:,} chips, 6.2 times the "
        "largest. There is no published number to compare this with; it shows how wide an honest "
        "answer is.\n"
    )
    yield "| series | predicted | 90 % interval |\n|---|---|---|"
    for name, seen in table.series.items():
        known = [(float(n), [y]) for n, y in seen.items()]
        p = extrapolate(curve_of(known), [_LARGEST_JOB], domain=_MAXTEXT_DOMAIN).predictions[0]
        yield f"| {name} | {_share(p.efficiency)} | {_share(p.low)} to {_share(p.high)} |"


def _points(found: Iterable[Checked]) -> str:
    return f"{fmean(abs(c.error) for c in found) * 100:.2f} points"


def _points_of_nearest(found: Iterable[Checked]) -> str:
    return f"{fmean(abs(c.error_of(c.further.chosen)) for c in found) * 100:.2f}"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}".replace("%", " %")


def _signed(value: float) -> str:
    return f"{value * 100:+.1f}".replace("-", "−")


def main() -> None:
    print(scaling_page(), end="")  # noqa: T201


if __name__ == "__main__":
    main()

"""``windtunnel scale``: a training at several sizes, and what more chips would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from harness.cli.again import command_again
from harness.cli.exits import Exit, told
from harness.cli.live import progress
from harness.cli.load_options import Outputs, with_groups
from harness.cli.load_outputs import Written, tell, write
from harness.cli.options import (
    Overrides,
    Pools,
    Prices,
    Quiet,
    Ray,
    Store,
    index_of,
    store_of,
)
from harness.cli.output import stderr
from harness.cli.scale_tables import print_scaling
from harness.cli.session import deployer, run_context
from harness.errors import SpecError
from harness.scale.ask import ScaleAsk, can_train_alone, cells_of, make_ask
from harness.scale.document import SCALE_SCHEMA, scale_document
from harness.scale.loop import measure_scaling, runs_before
from harness.spec import RunSpec
from harness.specfile import read_specs
from results.clock import SystemClock
from results.lost import seal_lost
from results.record import new_run_id
from results.scaling.efficiency import Scaling, scaling_of
from results.scaling.further import further_of
from results.scaling.runs import ScaleRun
from results.scaling.told import ScaleTold
from results.store_files import FileStore

_Opt = typer.Option
OneSpec = Annotated[
    Path | None, typer.Argument(metavar="SPEC", help="A YAML file with one training.")
]
Workers = Annotated[
    str, _Opt("--workers", metavar="N,N…", help="Sizes: workers of each, one of them is n₀.")
]
ModeName = Annotated[
    Literal["weak", "strong"],
    _Opt("--mode", help="weak: work per worker constant; strong: the batch of all constant."),
]
Repeats = Annotated[
    int, _Opt("--repeats", min=1, metavar="N", help="Rounds; each measures every size once.")
]
Predict = Annotated[str, _Opt("--predict", metavar="N,N…", help="Larger sizes to extrapolate to.")]
Domain = Annotated[
    int | None,
    _Opt("--domain", min=1, metavar="N", help="Workers within one NVLink host or TPU slice."),
]
Control = Annotated[
    bool | None,
    _Opt(
        "--control/--no-control",
        help="Each size also without exchange. Default: on CPUs, where ranks share cores.",
    ),
]
Resume = Annotated[
    str, _Opt("--resume", metavar="ID", help="Go on with an experiment; made runs are kept.")
]


@with_groups
def scale(
    *,
    spec: OneSpec = None,
    workers: Workers = "1,2,4",
    mode: ModeName = "weak",
    repeats: Repeats = 3,
    predict: Predict = "",
    domain: Domain = None,
    control: Control = None,
    resume: Resume = "",
    override: Overrides = None,
    ray: Ray = "local",
    pools: Pools = None,
    prices: Prices = None,
    store: Store = None,
    outputs: Outputs,
    quiet: Quiet = False,
) -> None:
    """Measure a training at several sizes, in interleaved rounds: its scaling efficiency.

    Every run is a record. Ctrl-C tells what is known until then and how to go on. On a host whose
    cores the ranks share, a control without exchange tells contention from scaling loss.

    Examples: `windtunnel scale examples/scaling.yaml --workers 1,2,4 --predict 8,16`,
    `windtunnel scale SPEC --workers 1,2,4 --mode strong --repeats 5 --picture scaling.svg`
    """
    with told(outputs.as_json):
        outputs.checked()
        ask = make_ask(
            _one_spec(spec, override), _numbers("--workers", workers), mode=mode,
            num_rounds=repeats, control=control, domain=domain,
            predict=_numbers("--predict", predict),
        )  # fmt: skip
        cluster = _Cluster(ray=ray, pools=pools, prices=prices)
        experiment_id, runs, stopped = _made(ask, cluster, store_of(store), resume, quiet)
        code = _tell(ask, experiment_id, runs, outputs, stopped)
    raise typer.Exit(code)


class _Cluster(NamedTuple):
    """Where the runs are deployed, and what that costs."""

    ray: str
    pools: Path | None
    prices: Path | None


def _one_spec(path: Path | None, override: Sequence[str] | None) -> RunSpec:
    if path is None:
        raise SpecError("scale takes a SPEC: a YAML file with one training")
    specs = read_specs(str(path), override or [])
    if len(specs) != 1:
        raise SpecError(f"{path} holds {len(specs)} specs; scale takes one")
    return specs[0]


def _made(
    ask: ScaleAsk, cluster: _Cluster, store: FileStore, resume: str, quiet: bool
) -> tuple[str, list[ScaleRun], bool]:
    """The experiment's id, all its runs that count, and whether the user stopped it."""
    clock = SystemClock()
    store.prepare()
    with progress(stderr(), clock, quiet) as shown:
        seal_lost(store, clock)
        before = _before(ask, resume, store) if resume else ()
        experiment_id = resume or new_run_id(clock.now_utc())
        missing, total = _missing(ask, before), len(cells_of(ask))
        shown.phase("experiment", f"experiment {experiment_id}: {missing} of {total} runs to make")
        if not missing:  # it is only told again; Ray takes seconds to start
            return experiment_id, list(before), False
        with deployer(cluster.ray, cluster.pools, clock, shown) as ours:
            context = run_context(ours, store, clock, shown, cluster.prices)
            runs = list(before)
            try:
                for made in measure_scaling(ask, context, experiment_id, before):
                    runs = [*runs, made]
            except KeyboardInterrupt:
                return experiment_id, runs, True
    return experiment_id, runs, False


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Raises SpecError."""
    try:
        found = tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        found = (0,)
    if any(n < 1 for n in found):
        raise SpecError(f"{option} {text}: accepted: whole numbers from 1, like 1,2,4,8")
    return found


def _before(ask: ScaleAsk, experiment_id: str, store: FileStore) -> tuple[ScaleRun, ...]:
    index = index_of(store)
    index.refresh()
    rows = index.list(0, experiment_id=experiment_id)
    index.close()
    return runs_before((store.get(row.run_id) for row in rows), store, ask, experiment_id)


def _tell(
    ask: ScaleAsk, experiment_id: str, runs: Sequence[ScaleRun], outputs: Outputs, stopped: bool
) -> Exit:
    head = _head(ask, experiment_id, runs)
    scaling = scaling_of(runs, ask.mode)
    further = further_of(
        scaling, runs, ask.predict, domain=ask.domain, global_batch=ask.global_batch
    )
    written = Written()
    if scaling.n0 is not None and (not outputs.no_page or outputs.picture is not None):
        from reports.plots_scale import efficiency_plot
        from reports.scale_report import scale_report

        written = write(
            outputs,
            lambda: scale_report(head, scaling, further, runs),
            lambda: efficiency_plot(scaling, further, "efficiency"),
            experiment_id,
            ask.base.name,
        )
    body = {**scale_document(head, scaling, further, runs), "report": written.report}
    if not tell(outputs, SCALE_SCHEMA, body):
        print_scaling(head, scaling, further, written)
    if stopped or head.missing:
        stderr().print(
            f"{head.missing} runs are missing; the same command with --resume {experiment_id} "
            "makes them",
            markup=False,
            soft_wrap=True,
        )
    written.complain()
    return _exit_of(scaling, runs, stopped)


def _exit_of(scaling: Scaling, runs: Sequence[ScaleRun], stopped: bool) -> Exit:
    if stopped:
        return Exit.INTERRUPTED
    if any(run.is_failed for run in runs):
        return Exit.INFRASTRUCTURE
    usable = scaling.n0 is not None and all(run.throughput is not None for run in runs)
    return Exit.OK if usable else Exit.INVALID


def _head(ask: ScaleAsk, experiment_id: str, runs: Sequence[ScaleRun]) -> ScaleTold:
    return ScaleTold(
        name=ask.base.name,
        workload=ask.base.workload.kind,
        mode=ask.mode,
        evidence="simulated" if any(r.simulated for r in runs) else "measured",
        experiment_id=experiment_id,
        workers=ask.workers,
        num_rounds=ask.num_rounds,
        control=ask.control,
        can_control=can_train_alone(ask.base),
        accelerator=next((r.accelerator for r in runs if r.accelerator), "cpu"),
        domain=ask.domain,
        missing=_missing(ask, runs),
        command=command_again(options=("--resume",)),
    )


def _missing(ask: ScaleAsk, runs: Sequence[ScaleRun]) -> int:
    have = {(r.num_workers, r.round_index, r.is_control) for r in runs if not r.is_failed}
    return sum(cell.key not in have for cell in cells_of(ask))

"""How ``capacity`` and ``sweep`` reach an endpoint, keep their points and write what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.bench.ask import Ask
from harness.bench.preflight import look, tell_unlisted
from harness.capacity.keep import kept_points
from harness.capacity.measure import MeasurePoint, point_measurer
from harness.capacity.points import patience_s
from harness.capacity.slo import Slo
from harness.cli.again import command_again
from harness.cli.exits import Afterwards
from harness.cli.live import Shown, pulse_words
from harness.cli.load_options import Keeping, LoadOptions, Outputs, Sending
from harness.cli.options import store_of
from harness.cli.output import print_json, write_document, writing
from harness.errors import HarnessError
from harness.load.local_workers import check_workers
from harness.settings import read_settings
from reports.model import Plot, Report
from results.capacity import LoadTold, Point
from results.clock import Clock
from results.record import new_run_id
from results.slo import as_limits, parse_slo
from workloads.base import ServerTarget
from workloads.traffic.spec import FixedLength, Length, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """An endpoint that was looked at, and how a point of it is measured."""

    base_url: str
    model: str
    measure: MeasurePoint
    search_id: str  # ties the records of one search together


@contextmanager
def reach(
    load: LoadOptions,
    ask: Ask,
    slo: Slo | None,
    *,
    name: str,
    keeping: Keeping,
    sending: Sending,
    clock: Clock,
    shown: Shown,
) -> Iterator[Reached]:
    """Look whether the endpoint answers; its senders live until the context is left.

    Raises EndpointUnreachable or SpecError, and StoreUnwritable before anything is sent.
    """
    check_workers(sending.workers)
    search_id = new_run_id(clock.now_utc())
    store = store_of(keeping.url) if keeping.url else None
    if store is not None:
        store.prepare()
    shown.phase("endpoint", f"looking at {load.endpoint}")
    key_env = load.api_key_env
    found = look(
        load.endpoint,
        load.model,
        load.api,
        api_key=ask.api_key,
        api_key_env=key_env,
        timeout_s=load.timeout,
    )
    tell_unlisted(found, shown)
    target = ServerTarget(
        base_url=found.base_url,
        model=found.model,
        api_key_env=key_env,
        vocab_size=ask.vocab_size,
    )

    with point_measurer(
        target,
        workers=sending.workers,
        calibrate=sending.calibrate,
        shown=shown,
        on_pulse=lambda pulse: shown.note(pulse_words(pulse)),
        clock=clock,
    ) as measure:
        if store is not None:
            measure = kept_points(
                measure,
                target,
                name=name,
                slo=as_limits(parse_slo(slo.text)) if slo else {},
                experiment_id=search_id,
                store=store,
                clock=clock,
                image_digest=read_settings().image_digest,
            )
        yield Reached(
            base_url=found.base_url, model=found.model, measure=measure, search_id=search_id
        )


def patient(traffic: Traffic, slo: Slo) -> Traffic:
    """The same traffic, whose requests are given up when they have surely missed their SLO."""
    return replace(traffic, request_timeout_s=patience_s(slo.limits, traffic))


def told_of(reached: Reached, ask: Ask, slo: Slo | None, points: Sequence[Point]) -> LoadTold:
    """The head of a document and of a page."""
    traffic = ask.traffic
    return LoadTold(
        endpoint=reached.base_url,
        model=reached.model,
        evidence="simulated" if any(p.simulated for p in points) else "measured",
        slo=slo.text if slo else "",
        traffic={
            "api": traffic.api,
            "arrivals": traffic.arrivals.kind,
            "prompt_tokens": _length_words(traffic.prompt_tokens),
            "output_tokens": _length_words(traffic.output_tokens),
            "warmup": traffic.num_warmup_requests,
            "seed": traffic.seed,
        },
        command=command_again(),
    )


def about(head: LoadTold) -> str:
    """What a picture is of, for whoever sees it without its page."""
    simulated = "simulated" if head.evidence == "simulated" else ""
    return ", ".join(filter(None, (f"model {head.model}", head.slo, simulated)))


def _length_words(length: Length) -> str:
    """``64`` or ``uniform low 16 high 256``."""
    if isinstance(length, FixedLength):
        return str(length.tokens)
    values = asdict(length)
    kind = values.pop("kind")
    return " ".join([str(kind), *(f"{name} {value}" for name, value in values.items())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What came of the page and the picture."""

    page: Path | None = None
    picture: Path | None = None
    failed: HarnessError | None = None

    @property
    def report(self) -> str | None:
        return str(self.page) if self.page else None

    def print_on(self, console: Console) -> None:
        for name, path in (("page", self.page), ("picture", self.picture)):
            if path is not None:
                console.print(f"{name}  {path}", markup=False, soft_wrap=True)

    def complain(self) -> None:
        """Raise what went wrong, after everything else was told."""
        if self.failed is not None:
            raise Afterwards(self.failed)


def write(
    outputs: Outputs,
    report: Callable[[], Report],
    draw: Callable[[], Plot | None],
    search_id: str,
    about: str,
) -> Written:
    """The page and the picture, as far as they can be written: the document and the tables,
    which cost the load, are told whatever becomes of these."""
    page, picture = None, None
    try:
        if not outputs.no_page:
            page = _write_page(report(), outputs.page, search_id)
        if outputs.picture is not None:
            picture = _write_picture(draw, outputs.picture, about)
    except HarnessError as error:
        return Written(page=page, picture=picture, failed=error)
    return Written(page=page, picture=picture)


def _write_page(report: Report, path: Path | None, search_id: str) -> Path:
    from reports.html import render_html

    name = f"{report.kind.split()[0]}-{search_id}.html"
    place = path or read_settings().reports_dir / name
    with writing(place, "--page"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(render_html(report), encoding="utf-8")
    return place.resolve()


def _write_picture(draw: Callable[[], Plot | None], path: Path, about: str) -> Path:
    from reports.picture import write_picture

    plot = draw()
    if plot is None:
        raise HarnessError(f"--picture {path}: no point left anything to draw")
    with writing(path, "--picture"):
        write_picture(plot, path, about)
    return path.resolve()


def tell(outputs: Outputs, schema: str, body: Mapping[str, Any]) -> bool:
    """Print and write the document as asked; whether it was printed."""
    if outputs.as_json:
        print_json(schema, body)
    if outputs.out is not None:
        write_document(outputs.out, "--out", schema, body)
    return outputs.as_json

"""How ``capacity`` and ``sweep`` reach an endpoint, keep their points and write what they found."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from harness.bench.ask import Ask
from harness.bench.preflight import look
from harness.capacity.keep import kept_points
from harness.capacity.measure import MeasurePoint, point_measurer
from harness.capacity.points import patience_s
from harness.capacity.slo import Slo
from harness.cli.live import Shown
from harness.cli.load_options import LoadWords
from harness.cli.options import store_of
from harness.cli.output import json_text, print_json
from harness.errors import HarnessError, SpecError
from harness.load.fleet import Pulse
from harness.settings import read_settings
from reports.model import Plot, Report
from results.capacity import LoadTold, Point
from results.clock import Clock
from results.record import new_run_id
from workloads.base import ServerTarget
from workloads.traffic.spec import FixedLength, Length, Traffic

_PICTURES = (".svg", ".png")


class Keeping(NamedTuple):
    """Where the points' records go."""

    store: str | None
    no_store: bool


class Sending(NamedTuple):
    """With how many senders, calibrated or not."""

    workers: int
    calibrate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """An endpoint that was looked at, and how a point of it is measured."""

    base_url: str
    model: str
    measure: MeasurePoint
    search_id: str  # ties the records of one search together


@contextmanager
def reach(
    words: LoadWords,
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
    if sending.workers < 1:
        raise SpecError(f"--workers {sending.workers}: at least one has to send")
    search_id = new_run_id(clock.now_utc())
    store = None if keeping.no_store else store_of(keeping.store)
    if store is not None:
        store.prepare()
    shown.phase("endpoint", f"looking at {words.endpoint}")
    key_env = words.api_key_env
    found = look(words.endpoint, words.model, words.api, api_key=ask.api_key, api_key_env=key_env)
    target = ServerTarget(
        base_url=found.base_url,
        model=found.model,
        api_key_env=key_env,
        vocab_size=ask.vocab_size,
    )

    def beat(pulse: Pulse) -> None:
        shown.note(f"{pulse.rate_rps:.1f}/s done, {pulse.num_failed} failed")

    with point_measurer(
        target,
        workers=sending.workers,
        calibrate=sending.calibrate,
        shown=shown,
        on_pulse=beat,
        clock=clock,
    ) as measure:
        if store is not None:
            measure = kept_points(
                measure,
                target,
                name=name,
                slo=slo.per_request if slo else {},
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


def told_of(
    reached: Reached, ask: Ask, slo: Slo | None, points: Sequence[Point], command: Sequence[str]
) -> LoadTold:
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
        command=shlex.join(["windtunnel", *command]),
    )


def _length_words(length: Length) -> str:
    """``64`` or ``uniform low 16 high 256``."""
    if isinstance(length, FixedLength):
        return str(length.tokens)
    values = asdict(length)
    kind = values.pop("kind")
    return " ".join([str(kind), *(f"{name} {value}" for name, value in values.items())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What is written beside the tables, and where. ``page`` None: under our own reports."""

    out: Path | None
    page: Path | None
    no_page: bool
    picture: Path | None
    as_json: bool

    @classmethod
    def of(
        cls,
        out: Path | None,
        page: Path | None,
        no_page: bool,
        picture: Path | None,
        as_json: bool,
    ) -> Self:
        """Checked before the load: afterwards it would be too late. Raises SpecError."""
        if picture is not None and picture.suffix not in _PICTURES:
            raise SpecError(f"--picture {picture}: a picture is {' or '.join(_PICTURES)}")
        for option, path in (("--out", out), ("--page", page), ("--picture", picture)):
            if path is not None and not path.resolve().parent.is_dir():
                raise SpecError(f"{option} {path}: there is no folder {path.resolve().parent}")
        return cls(out=out, page=page, no_page=no_page, picture=picture, as_json=as_json)

    def write_page(self, report: Report, search_id: str) -> Path:
        """Returns the page's absolute path. Raises HarnessError when it cannot be written."""
        from reports.html import render_html

        name = f"{report.kind.split()[0]}-{search_id}.html"
        place = self.page or read_settings().reports_dir / name
        with _writing(place, "--page"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(render_html(report), encoding="utf-8")
        return place.resolve()

    def write_picture(self, draw: Callable[[], Plot | None]) -> None:
        """Where one was asked for. Raises HarnessError when there is nothing to draw."""
        if self.picture is None:
            return
        from reports.picture import write_picture

        plot = draw()
        if plot is None:
            raise HarnessError(f"--picture {self.picture}: no point left anything to draw")
        with _writing(self.picture, "--picture"):
            write_picture(plot, self.picture)

    def tell(self, schema: str, body: Mapping[str, Any]) -> bool:
        """Write and print the document as asked; whether it was printed."""
        if self.out is not None:
            with _writing(self.out, "--out"):
                self.out.write_text(json_text(schema, body) + "\n", encoding="utf-8")
        if self.as_json:
            print_json(schema, body)
        return self.as_json


@contextmanager
def _writing(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HarnessError(
            f"cannot write {path}: {error.strerror or error}; name another with {option}"
        ) from None

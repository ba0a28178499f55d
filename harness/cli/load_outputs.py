"""How ``capacity`` and ``sweep`` reach an endpoint, keep their points and write what they found."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from harness.capacity.keep import kept_points
from harness.capacity.measure import MeasurePoint, PointMeasured, look, measure_endpoint_once
from harness.capacity.points import patience_s
from harness.capacity.slo import Slo
from harness.cli.load_options import Asked, length_words
from harness.cli.options import store_of
from harness.cli.output import print_json
from harness.errors import HarnessError, SpecError
from harness.progress import Progress
from harness.settings import read_settings
from reports.model import Plot, Report
from results.capacity import LoadTold
from results.clock import Clock
from results.record import new_run_id
from workloads.traffic.spec import Traffic

_PICTURES = (".svg", ".png")


class Keeping(NamedTuple):
    """Where the points' records go."""

    store: str | None
    no_store: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """An endpoint that was looked at, and how a point of it is measured."""

    measure: MeasurePoint
    simulated: bool
    search_id: str  # ties the records of one search together


def reach(
    asked: Asked, slo: Slo | None, *, name: str, keeping: Keeping, clock: Clock, shown: Progress
) -> Endpoints:
    """Look whether the endpoint answers. Raises DeploymentError when it does not."""
    search_id = new_run_id(clock.now_utc())
    store = None if keeping.no_store else store_of(keeping.store)
    if store is not None:
        store.prepare()
    shown.phase("endpoint", f"looking at {asked.target.base_url}")
    simulated = look(asked.target, asked.traffic.api)

    def measure(traffic: Traffic) -> PointMeasured:
        return measure_endpoint_once(asked.target, traffic, on_progress=shown.advance, clock=clock)

    if store is None:
        return Endpoints(measure=measure, simulated=simulated, search_id=search_id)
    kept = kept_points(
        measure,
        asked.target,
        name=name,
        slo={limit.metric: limit.limit_s for limit in slo.limits} if slo else {},
        simulated=simulated,
        experiment_id=search_id,
        store=store,
        clock=clock,
        image_digest=read_settings().image_digest,
    )
    return Endpoints(measure=kept, simulated=simulated, search_id=search_id)


def patient(traffic: Traffic, slo: Slo) -> Traffic:
    """The same traffic, whose requests are given up when they have surely missed their SLO."""
    return replace(traffic, request_timeout_s=patience_s(slo.limits, traffic))


def told_of(asked: Asked, slo: Slo | None, simulated: bool, words: Sequence[str]) -> LoadTold:
    """The head of a document and of a page."""
    traffic = asked.traffic
    return LoadTold(
        endpoint=asked.target.base_url,
        model=asked.target.model,
        evidence="simulated" if simulated else "measured",
        slo=slo.text if slo else "",
        traffic={
            "api": traffic.api,
            "arrivals": traffic.arrivals.kind,
            "prompt_tokens": length_words(traffic.prompt_tokens),
            "output_tokens": length_words(traffic.output_tokens),
            "warmup": traffic.num_warmup_requests,
            "seed": traffic.seed,
        },
        command=shlex.join(["windtunnel", *words]),
    )


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
            document = {"schema": schema, **body}
            text = json.dumps(document, indent=2, allow_nan=False, default=str)
            with _writing(self.out, "--out"):
                self.out.write_text(text + "\n", encoding="utf-8")
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

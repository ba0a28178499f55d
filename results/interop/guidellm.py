"""GuideLLM's JSON output, report schema 1 (to 0.6) and 2 (from 0.7): one run per benchmark in it.

Its ``TPOT`` is (last token − send) / tokens, so it includes TTFT and is our ``ntpot_s``; its
``ITL`` is (last token − first) / (tokens − 1), so it is our ``tpot_s``, though its mean and
percentiles weigh each request by its gaps. It keeps the first and the last token's time of a
request and none between. Open-loop strategies write down when each request was due.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from results.interop.foreign import (
    MS,
    ForeignRun,
    Reported,
    chosen,
    count,
    figures_only,
    mapping,
    names_taken,
    number,
    part,
    single,
    statistics,
    text,
)
from results.interop.rows import NAN, NO_REASON, Row, all_samples, short_error
from results.record import Doubt

TOOL = "GuideLLM"
KNOWN_SCHEMAS = (1, 2)
# Strategies whose ``targeted_start`` is a schedule that does not wait for answers.
_OPEN_LOOP = ("constant", "poisson")
_DISTRIBUTIONS = (
    ("time_to_first_token_ms", "ttft_s", MS),
    ("inter_token_latency_ms", "tpot_s", MS),
    ("time_per_output_token_ms", "ntpot_s", MS),
    ("request_latency", "e2e_s", 1.0),
    ("request_dispatch_delay", "dispatch_lag_s", 1.0),
)
_STATISTICS = {"mean": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_RATES = (
    ("requests_per_second", "achieved_rate"),
    ("output_tokens_per_second", "output_throughput"),
    ("prompt_tokens_per_second", "prompt_throughput"),
    ("request_goodput", "goodput_rate"),
)
# Its objective ``tpot_ms`` is held against its ITL, which is our TPOT.
_SLO = {"ttft_ms": "ttft_s", "tpot_ms": "tpot_s", "e2el_ms": "e2e_s"}
_DEFINITIONS = (
    "its ITL is kept as tpot_s and ends with the last token, not with the last byte; its "
    "statistics weigh a request by its gaps",
    "its TPOT includes TTFT and is kept as ntpot_s",
    "its percentiles are sample values, without interpolation",
    "chunk times between first and last token are not kept",
)


def read(document: Mapping[str, Any]) -> tuple[ForeignRun, ...]:
    """Every benchmark of the file. Raises KeyError, TypeError or ValueError for what is none."""
    return tuple(_benchmark(document, found) for found in document["benchmarks"])


def _benchmark(document: Mapping[str, Any], found: Mapping[str, Any]) -> ForeignRun:
    metrics = mapping(found, "metrics")
    totals = mapping(metrics, "request_totals")
    done, failed = count(totals.get("successful")), count(totals.get("errored"))
    strategy = mapping(found, "config", "strategy")
    kind = text(strategy.get("type_"))
    rows = _rows(found, kind in _OPEN_LOOP)
    # Requests cut off at the end were neither answered nor refused; none is a failure of theirs.
    samples = all_samples(rows, done + failed) if done else None
    complete = samples is not None
    reported = tuple(_reported(metrics, done, failed, strategy))
    taken = names_taken(reported) | {"request_totals"}
    return ForeignRun(
        tool=TOOL,
        version=text(part(document, "metadata", "guidellm_version")),
        model=_model(document, found),
        asked=_asked(document, found, strategy),
        num_requests=done + failed,
        num_failed=failed,
        reported=reported,
        figures=figures_only(_successful(metrics)) or {},
        unmapped=tuple(_unmapped(metrics, taken, found, complete)),
        definitions=_DEFINITIONS,
        started_at=_date(found.get("start_time")),
        duration_s=number(found.get("duration")),
        samples=samples,
        schedule_known=complete and kind in _OPEN_LOOP,
        slo=_slo(found),
        seeds=_seeds(document, strategy),
        doubts=tuple(_doubts(document, found)),
    )


def _reported(
    metrics: Mapping[str, Any], done: int, failed: int, strategy: Mapping[str, Any]
) -> Iterator[Reported]:
    for theirs, ours, unit in _DISTRIBUTIONS:
        tree = mapping(metrics, theirs, "successful")
        # Nothing measured is written as zeros with a count of none.
        n = count(tree.get("count"))
        if n:
            flat = {**mapping(tree, "percentiles"), "mean": tree.get("mean")}
            yield from statistics(ours, flat, _STATISTICS, n, theirs, unit)
    for theirs, ours in _RATES:
        rate = part(metrics, theirs, "successful", "mean")
        yield from single(ours, rate, done, theirs + ".successful.mean")
    determined = count(metrics.get("slo_determined_requests"), done + failed)
    yield from single("slo_attainment", metrics.get("slo_attainment"), determined, "slo_attainment")
    if done + failed:
        share = failed / (done + failed)
        yield from single("error_share", share, done + failed, "request_totals.errored / all")
    yield from single(
        "offered_rate", strategy.get("rate"), done + failed, "strategy.rate, as asked"
    )


def _rows(found: Mapping[str, Any], open_loop: bool) -> list[Row]:
    requests = mapping(found, "requests")
    rows = [_row(r, open_loop, "") for r in requests.get("successful") or ()]
    rows += [
        _row(r, open_loop, short_error(part(r, "info", "error") or NO_REASON))
        for r in requests.get("errored") or ()
    ]
    return sorted(rows, key=lambda row: row.intended_s)


def _row(request: Mapping[str, Any], open_loop: bool, error: str) -> Row:
    timings = mapping(request, "info", "timings")
    start = number(timings.get("request_start"))
    due = number(timings.get("targeted_start"))
    # A request that failed before it was sent has no start; it still was due.
    sent = NAN if start is None else start
    intended = due if due is not None and (open_loop or start is None) else sent
    first, done = (number(timings.get(k)) for k in ("first_token_iteration", "request_end"))
    process = mapping(request, "info").get("scheduler_process_id")
    return Row(
        intended_s=intended,
        dispatched_s=sent if open_loop else NAN,
        first_token_s=NAN if error or first is None else first,
        done_s=NAN if done is None else done,
        prompt_tokens=count(part(request, "input_metrics", "total_tokens"), -1),
        output_tokens=-1 if error else count(part(request, "output_metrics", "total_tokens"), -1),
        error=error,
        worker=count(process),
    )


def _successful(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The summary without the branches of requests that failed or were cut off."""
    return {
        name: tree.get("successful", tree) if isinstance(tree, Mapping) else tree
        for name, tree in metrics.items()
    }


def _unmapped(
    metrics: Mapping[str, Any], taken: set[str], found: Mapping[str, Any], complete: bool
) -> Iterator[str]:
    for name, tree in metrics.items():
        if name not in taken and figures_only(_successful({name: tree})):
            yield name
    if not complete and any(mapping(found, "requests").values()):
        yield "requests (not all of them are in the file)"


def _model(document: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    places = (
        part(found, "config", "backend", "model"),
        part(document, "config", "spec", "backend", "model"),
        part(document, "args", "model"),
        part(found, "config", "backend", "target_model"),
    )
    return next((text(p) for p in places if text(p)), "")


def _asked(
    document: Mapping[str, Any], found: Mapping[str, Any], strategy: Mapping[str, Any]
) -> dict[str, Any]:
    """What decides the question. The backend's address, key and headers stay behind."""
    data = part(document, "config", "spec", "data") or part(document, "args", "data")
    limits = mapping(found, "config", "constraints") or mapping(document, "args")
    asked: dict[str, Any] = {
        "strategy": chosen(strategy, "type_", "rate", "streams", "max_concurrency"),
        "data": [_without_empty(d) for d in data or ()],
        "limits": {
            name: _without_empty(mapping(limits, name, "args")) or limits[name]
            for name in ("max_requests", "max_duration", "max_seconds", "max_errors")
            if limits.get(name) is not None
        },
    }
    backend = mapping(found, "config", "backend")
    asked["api"] = text(backend.get("request_format")) or text(
        part(document, "args", "request_type")
    )
    return {name: value for name, value in asked.items() if value}


def _without_empty(tree: Any) -> Any:
    if not isinstance(tree, Mapping):
        return tree
    return {k: v for k, v in tree.items() if v not in (None, "", [], {})}


def _slo(found: Mapping[str, Any]) -> dict[str, float]:
    limits = mapping(found, "config", "slo")
    known = {ours: number(limits.get(theirs)) for theirs, ours in _SLO.items()}
    return {ours: limit * MS for ours, limit in known.items() if limit is not None}


def _seeds(document: Mapping[str, Any], strategy: Mapping[str, Any]) -> dict[str, int]:
    found = {
        "data": part(document, "config", "spec", "seed", "value"),
        "random_seed": part(document, "args", "random_seed"),
        "strategy": strategy.get("random_seed"),
    }
    return {name: seed for name, seed in found.items() if isinstance(seed, int)}


def _date(seconds: Any) -> datetime | None:
    known = number(seconds)
    return datetime.fromtimestamp(known, UTC) if known else None


def _doubts(document: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Doubt]:
    schema = part(document, "metadata", "version")
    if schema not in KNOWN_SCHEMAS:
        yield Doubt(
            code="unknown_version",
            message=f"report schema {schema!r} of {TOOL} was not known when this importer was "
            f"written (known: {', '.join(map(str, KNOWN_SCHEMAS))})",
        )
    if cut := count(part(found, "metrics", "request_totals", "incomplete")):
        yield Doubt(
            code="cut_off_requests",
            message=f"{cut} requests were still under way when {TOOL} stopped: in no figure",
        )
    for warning in found.get("warnings") or ():
        message = text(part(warning, "message"))
        if message:
            yield Doubt(code="tool_warning", message=f"{TOOL} warned: {message}")

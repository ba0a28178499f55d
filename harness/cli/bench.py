"""``windtunnel bench``: any OpenAI-compatible endpoint, one load, numbers with their error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.bench.ask import Ask, Words, ask_of
from harness.bench.measure import (
    Calibrating,
    Ending,
    Interrupted,
    Measured,
    measure_endpoint,
)
from harness.bench.preflight import Found, look, tell_unlisted
from harness.cli.exits import Afterwards, Exit, told
from harness.cli.live import Shown, progress, pulse_words
from harness.cli.load_options import (
    Duration,
    Keeping,
    LoadOptions,
    NumRequests,
    Out,
    Sending,
    Think,
    with_groups,
)
from harness.cli.options import Json, Quiet, store_of
from harness.cli.output import check_writable, print_json, stderr, stdout, write_document
from harness.errors import SpecError
from harness.load.fleet import Pulse
from harness.load.local_workers import check_workers
from harness.settings import read_settings
from results.clock import Clock, SystemClock
from results.errors import StoreUnwritable
from results.slo import as_limits
from workloads.base import ServerTarget

if TYPE_CHECKING:
    from harness.bench.begun import Begun
    from results.record import RunRecord

_Opt = typer.Option
Stream = Annotated[
    bool,
    _Opt("--stream/--no-stream", help="As a stream, or in one piece: then no token has a time."),
]
Rate = Annotated[
    float | None,
    _Opt("--rate", metavar="R", help="Open loop: requests/s, sent whatever the server does."),
]
Concurrency = Annotated[
    int | None,
    _Opt("--concurrency", metavar="N", help="Closed loop: N users that wait for their answers."),
]
Slo = Annotated[
    str, _Opt("--slo", metavar="LIMITS", help="ttft_p99=500ms,tpot=50ms, or a preset such as chat.")
]
UntilRule = Annotated[
    str, _Opt("--until", metavar="RULE", help="End when precise enough: 'ttft_p99 ±5%'.")
]
Force = Annotated[bool, _Opt("--force", help="Send even above half the client's ceiling.")]


@with_groups
def bench(
    *,
    rate: Rate = None,
    concurrency: Concurrency = None,
    think_time: Think = 0.0,
    duration: Duration = None,
    num_requests: NumRequests = None,
    load: LoadOptions,
    stream: Stream = True,
    slo: Slo = "",
    until: UntilRule = "",
    sending: Sending,
    force: Force = False,
    keeping: Keeping,
    out: Out = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Send one load to an OpenAI-compatible endpoint and measure it. Starts nothing but itself.

    Latencies count from the time a request was meant to be sent. A run that the client spoiled is
    `invalid` (exit code 4), never a wrong number. Ctrl-C tells what there is until then.

    Examples: `windtunnel bench --endpoint http://127.0.0.1:8000 --rate 5`,
    `windtunnel bench --endpoint URL --concurrency 32 --input-tokens uniform:64:512 --json`
    """
    with told(as_json):
        words = load.words(
            stream=stream, rate=rate, concurrency=concurrency, think=think_time,
            duration=duration, num_requests=num_requests, slo=slo, until=until,
        )  # fmt: skip
        calibrating = Calibrating(enabled=sending.calibrate, force=force)
        code = _bench(words, sending.workers, calibrating, keeping.url, out, quiet, as_json)
    raise typer.Exit(code)


def _bench(
    words: Words,
    workers: int,
    calibrating: Calibrating,
    store_url: str,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> Exit:
    ask, clock = ask_of(words), SystemClock()
    check_workers(workers)
    _check_writable(store_url, out)
    begun = _begin(clock) if store_url else None
    with progress(stderr(), clock, quiet) as shown:
        shown.phase("endpoint", f"looking at {words.endpoint}")
        found = look(
            words.endpoint,
            words.model,
            words.api,
            api_key=ask.api_key,
            api_key_env=words.api_key_env,
            timeout_s=words.timeout,
        )
        tell_unlisted(found, shown)
        measured = _measure(ask, words, found, workers, calibrating, clock, shown)
        record, unkept = None, None
        if begun is not None:
            try:
                record = _keep(ask, words, found, measured, begun, store_url, clock)
                measured = replace(measured, doubts=record.doubts)  # with those about the host
            except StoreUnwritable as error:
                unkept = error  # the numbers are there, and are told first
    _print(measured, ask, found, record, out, as_json)
    if unkept is not None:
        raise Afterwards(unkept)
    if measured.ending is Ending.INTERRUPTED:
        return Exit.INTERRUPTED
    return Exit.OK if measured.valid else Exit.INVALID


def _measure(
    ask: Ask,
    words: Words,
    found: Found,
    workers: int,
    calibrating: Calibrating,
    clock: Clock,
    shown: Shown,
) -> Measured:
    target = ServerTarget(
        base_url=found.base_url,
        model=found.model,
        api_key_env=words.api_key_env,
        vocab_size=ask.vocab_size,
    )

    def beat(pulse: Pulse) -> None:
        shown.note(pulse_words(pulse))

    try:
        return measure_endpoint(
            target,
            ask.traffic,
            slo=ask.limits,
            workers=workers,
            calibrate=calibrating,
            clock=clock,
            progress=shown,
            until=ask.until,
            on_pulse=beat,
        )
    except Interrupted as stopped:
        return stopped.measured
    except ValueError as error:  # more users than this process may open connections for
        raise SpecError(str(error)) from None


def _check_writable(store_url: str, out: Path | None) -> None:
    """Before the load: afterwards it would be too late to say so."""
    check_writable("--out", out)
    if store_url and "://" not in store_url:
        try:
            Path(store_url).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnwritable(
                f"the store {store_url} cannot be made ({error.strerror}); name another with "
                "--store, or keep no record with --no-store"
            ) from None


def _begin(clock: Clock) -> Begun:
    from harness.bench.begun import Begun
    from harness.provenance import host_load

    return Begun(at=clock.now_utc(), at_s=clock.monotonic_s(), load=host_load())


def _keep(
    ask: Ask,
    words: Words,
    found: Found,
    measured: Measured,
    begun: Begun,
    store_url: str,
    clock: Clock,
) -> RunRecord:
    from harness.bench.keep import keep
    from harness.spec import RunSpec
    from workloads.params import EndpointWorkload

    spec = RunSpec(
        name=f"bench-{words.api}",
        workload=EndpointWorkload(
            url=found.base_url, model=found.model, api_key_env=words.api_key_env
        ),
        traffic=ask.traffic,
        slo=as_limits(ask.slo) if ask.slo else {},
        tags={"slo": words.slo} if words.slo else {},  # a preset's name says where they come from
    )
    return keep(
        spec,
        measured,
        begun,
        store=store_of(store_url),
        clock=clock,
        image_digest=read_settings().image_digest,
    )


def _print(
    measured: Measured,
    ask: Ask,
    found: Found,
    record: RunRecord | None,
    out: Path | None,
    as_json: bool,
) -> None:
    from harness.bench.document import SCHEMA, bench_document

    body: dict[str, Any] = {
        "endpoint": found.base_url,
        "model": found.model,
        **bench_document(measured, ask.slo, record.run_id if record else ""),
    }
    if as_json:
        print_json(SCHEMA, body)
    if out is not None:
        write_document(out, "--out", SCHEMA, body)
    if as_json:
        return
    from harness.cli.bench_tables import bench_tables

    stdout().print(bench_tables(measured, body, ask.slo, record))

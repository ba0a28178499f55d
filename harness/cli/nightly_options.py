"""What `windtunnel nightly` may be asked: a sitting, versions, calibration, outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import typer

from harness.cli.output import check_writable
from harness.errors import SpecError
from harness.settings import secret

_Opt = typer.Option
SuitePath = Annotated[
    Path | None,
    typer.Argument(metavar="SUITE", help="A YAML file: runs, canaries, budget, subject."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """A night begun, or gone on with."""

    dry_run: Annotated[
        bool, _Opt("--dry-run", help="Print runs, duration, chip-hours and price; run nothing.")
    ] = False
    resume: Annotated[
        str,
        _Opt("--resume", metavar="NIGHT", help="Go on with that night, or with the last open one."),
    ] = ""
    resume_or_start: Annotated[
        bool, _Opt("--resume-or-start", help="Go on with the last open night; none: begin one.")
    ] = False
    on: Annotated[
        str, _Opt("--date", metavar="YYYY-MM-DD", help="The night's date. Default: today, UTC.")
    ] = ""
    confirm: Annotated[
        bool, _Opt("--confirm/--no-confirm", help="Measure suspicions good against new, in pairs.")
    ] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Two versions side by side instead of a night."""

    across: Annotated[
        tuple[str, str] | None,
        _Opt(
            "--across", metavar="GOOD NEW", help="Two versions of the subject in pairs; no night."
        ),
    ] = None
    only: Annotated[
        str, _Opt("--only", metavar="SERIES", help="With --across: this series alone.")
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The detector on made-up nights instead of a night."""

    calibrate: Annotated[
        bool, _Opt("--calibrate", help="Measure the detector on made-up nights; takes no SUITE.")
    ] = False
    num_series: Annotated[
        int, _Opt("--series", min=100, help="With --calibrate: made-up series of each kind.")
    ] = 1000
    seed: Annotated[int, _Opt("--seed", min=0, help="With --calibrate: of the made-up nights.")] = (
        20261124
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Where the page of a night goes. ``publish``: a folder or a bucket's URL."""

    publish: Annotated[
        str,
        _Opt(
            "--publish",
            metavar="URL",
            help="Folder or bucket of the pages; default: var/nights/pages.",
        ),
    ] = ""
    markdown: Annotated[
        Path | None, _Opt("--markdown", metavar="FILE", help="The page as Markdown as well.")
    ] = None
    webhook_env: Annotated[
        str, _Opt("--webhook-env", metavar="NAME", help="Variable with a Slack-like webhook's URL.")
    ] = ""
    prometheus: Annotated[
        Path | None,
        _Opt("--prometheus", metavar="FILE", help="Write the night for a textfile collector."),
    ] = None
    openmetrics: Annotated[
        Path | None, _Opt("--openmetrics", metavar="FILE", help="The same as OpenMetrics.")
    ] = None
    pushgateway: Annotated[
        str,
        _Opt("--pushgateway", metavar="URL", help="Push the same to a Prometheus push gateway."),
    ] = ""

    def checked(self) -> Self:
        """Before the night: afterwards it would be too late. Raises SpecError."""
        for option, path in (
            ("--markdown", self.markdown),
            ("--prometheus", self.prometheus),
            ("--openmetrics", self.openmetrics),
        ):
            check_writable(option, path)
        if self.publish:
            _check_pages(self.publish)
        if "://" in self.pushgateway and not self.pushgateway.startswith(_HTTP):
            raise SpecError("--pushgateway: accepted: an http URL, or host:port")
        if self.webhook_env:
            self.webhook_url()
        return self

    def webhook_url(self) -> str:
        """The secret that the variable holds. Raises SpecError, without it."""
        url = secret(self.webhook_env)
        if url is None:
            raise SpecError(
                f"--webhook-env {self.webhook_env}: there is no such variable, or it is empty"
            )
        if not url.startswith(_HTTP):
            raise SpecError(f"--webhook-env {self.webhook_env}: the variable holds no http URL")
        return url

    def words(self) -> list[str]:
        """The options again, as they are typed; passwords of URLs are left out."""
        from results.pages import without_password

        given = {
            "--publish": without_password(self.publish),
            "--markdown": self.markdown,
            "--webhook-env": self.webhook_env,
            "--prometheus": self.prometheus,
            "--openmetrics": self.openmetrics,
            "--pushgateway": without_password(self.pushgateway),
        }
        return [word for name, value in given.items() if value for word in (name, str(value))]


_HTTP = ("http://", "https://")


def _check_pages(url: str) -> None:
    from results.errors import StoreUnwritable
    from results.pages import Pages  # brings fsspec

    try:
        Pages(url).check()
    except StoreUnwritable as error:
        raise SpecError(f"--publish: {error}") from None

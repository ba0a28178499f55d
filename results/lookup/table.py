"""The database as somebody asks it: a snapshot with prices. Implements ``Lookup``."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path

import msgspec
import numpy as np

from results.cost import DEFAULT_RATIO, cost_of, tokens_per_s
from results.lookup.answering import Asked, Line, Priced, asking, lines, recommendations
from results.lookup.choose import choose, num_different
from results.lookup.columns import ESTIMATES, SIMULATED, SUPERSEDED, Bools
from results.lookup.estimates import with_estimates_told
from results.lookup.filters import Filtered, filtered
from results.lookup.made import LOOKED_INTO, WRITTEN
from results.lookup.refusal import failures_of, nothing_feasible, nothing_fits, unknown_model
from results.lookup.row import Row
from results.lookup.sheet import Hardware, dividing, feasible_of, sheet_of
from results.lookup.snapshot import Snapshot, open_current
from results.lookup.training import training_answer, trainings_of
from results.lookup.writing import write_snapshot
from results.prices import PriceBook, plain_name
from results.recommendation.answer import Answer
from results.recommendation.build import Fruitless
from results.recommendation.lookup import (
    AcceleratorSummary,
    ModelSummary,
    ProfileFilter,
    ProfilePage,
    TrainingSummary,
)
from results.recommendation.profile import Cost, Profile
from results.recommendation.question import Question

_MOST_ROWS = 16384  # some 5 kB each; most questions are about the same few
_MOST_PRICED = 64


class TableLookup:
    """One snapshot and one price book. Threads may share it: nothing changes but caches."""

    def __init__(self, snapshot: Snapshot, prices: PriceBook | None = None) -> None:
        book = prices or PriceBook()
        self.snapshot = snapshot
        self._prices = Priced(book)
        self._snapshot_id = _with_prices(snapshot.snapshot_id, book)
        self._row = lru_cache(_MOST_ROWS)(snapshot.row)
        self.hardware = lru_cache(_MOST_PRICED)(self._hardware)
        self.labels, self.facts = snapshot.labels, snapshot.facts
        self.price = self._prices.find

    @property
    def snapshot_id(self) -> str:
        return self._snapshot_id

    @property
    def num_profiles(self) -> int:
        return self.snapshot.num_profiles

    def answer(self, question: Question, now: datetime, *, written: bool = False) -> Answer:
        """``written``: each profile is its JSON, ready to be put into the answer's."""
        has_estimates = bool(self.snapshot.about.num_estimates) and not question.is_training
        # Estimates that are allowed are few, and looked into.
        make = WRITTEN if written and not (has_estimates and question.allow) else LOOKED_INTO
        asked = asking(question, self._prices, now, make)
        made = self._answer(asked)
        return with_estimates_told(made, asked, self._as_it_is) if has_estimates else made

    def _as_it_is(self, question: Question, now: datetime) -> Answer:
        return self._answer(asking(question, self._prices, now, LOOKED_INTO))

    def _answer(self, asked: Asked) -> Answer:
        snapshot, question = self.snapshot, asked.question
        start = partial(
            asked.make.answer,
            question=question,
            answered_at=asked.now,
            snapshot_id=self.snapshot_id,
            failures=failures_of(snapshot, question),
        )
        if question.is_training:
            return training_answer(snapshot.trainings, asked, start)
        if not snapshot.has_model(question.model):
            return start(no_answer=unknown_model(snapshot, question))
        found = filtered(snapshot, question, asked.now)
        if not len(found.positions):
            none = nothing_fits(snapshot, question, found)
            return start(narrowing=found.narrowing, no_answer=none)
        return self._of_rows(asked, found, start)

    def _of_rows(self, asked: Asked, found: Filtered, start: Callable[..., Answer]) -> Answer:
        part, question = found.part, asked.question
        hardware = self.hardware(question.capacity, question.region)
        num_considered = num_different(part.configuration.take(found.positions))
        start = partial(start, narrowing=found.narrowing, num_considered=num_considered)

        def rows_of(told: Sequence[Line]) -> list[Row]:
            rows = part.rows.take([line.position for line in told]) + part.first
            return [self._row(row) for row in rows.tolist()]

        with dividing():
            one = feasible_of(found, question, hardware)
            if not len(one):
                one = sheet_of(found, question, hardware)
                return start(no_answer=nothing_feasible(asked, one, rows_of))
            chosen = choose(one)
            told = lines(chosen.sheet, chosen.best)
        rows, better = rows_of(told), chosen.num_better.tolist()
        return start(
            num_feasible=num_different(one.configurations),
            recommendations=recommendations(asked, hardware.prices, rows, told, better),
            comments=tuple(_comments(hardware, question)),
        )

    def at(self, row: int) -> Profile:
        """The profile in that row of the snapshot."""
        return LOOKED_INTO.profile(self._row(row))

    def profile(self, profile_id: str) -> Profile | None:
        row = self.snapshot.row_of(profile_id)
        if row is not None:
            return self.at(row)
        return next((p for p in self.snapshot.trainings if p.profile_id == profile_id), None)

    def profiles(self, wanted: ProfileFilter, offset: int = 0, limit: int = 100) -> ProfilePage:
        names = self.snapshot.about.names
        if wanted.model and wanted.model not in names.model:
            return ProfilePage(profiles=(), offset=offset, total=0)
        rows = self._rows(wanted)
        if wanted.configuration_id:
            rows = rows[self._of_configuration(rows, wanted.configuration_id)]
        chosen = rows[max(offset, 0) : max(offset, 0) + max(limit, 0)]
        return ProfilePage(
            profiles=tuple(self.at(int(row)) for row in chosen),
            offset=offset,
            total=len(rows),
        )

    def rows(self, wanted: ProfileFilter) -> list[int]:
        """Rows of the snapshot that fit; its configuration is not looked at."""
        return [] if not self.snapshot.has_model(wanted.model) else self._rows(wanted).tolist()

    def _rows(self, wanted: ProfileFilter) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        snapshot, names = self.snapshot, self.snapshot.about.names
        first, end = snapshot.rows_of_model(wanted.model)
        part = slice(first, end)
        bits = snapshot.ints("bits")[part]
        keep = np.ones(end - first, dtype=bool)
        if not wanted.with_simulated:
            keep &= (bits & SIMULATED) == 0
        if not wanted.with_superseded:
            keep &= (bits & SUPERSEDED) == 0
        if snapshot.about.num_estimates and not wanted.with_estimates:
            keep &= ~np.isin(snapshot.ints("kind")[part], ESTIMATES)
        for column, listed, name in (
            ("server", names.server, wanted.model_server),
            ("version", names.version, wanted.model_server_version),
        ):
            if name:
                number = listed.index(name) if name in listed else -1
                keep &= snapshot.ints(column)[part] == number
        if wanted.accelerators or wanted.machine_types:
            plain = {plain_name(a) for a in wanted.accelerators}
            fits = np.array(
                [
                    (not plain or plain_name(m.accelerator) in plain)
                    and (not wanted.machine_types or m.machine_type in wanted.machine_types)
                    for m in snapshot.about.hardware
                ],
                dtype=bool,
            )
            keep &= fits[snapshot.ints("hardware")[part]]
        return np.flatnonzero(keep) + first

    def _of_configuration(
        self, rows: np.ndarray[tuple[int], np.dtype[np.int64]], configuration_id: str
    ) -> Bools:
        """By the first row of each configuration among ``rows``: the rest are the same."""
        numbers = self.snapshot.ints("configuration")[rows]
        found, first = np.unique(numbers, return_index=True)
        for number, at in zip(found, first, strict=True):
            if self.at(int(rows[at])).configuration_id == configuration_id:
                return np.asarray(numbers == number)
        return np.zeros(len(rows), dtype=bool)

    def models(self) -> tuple[ModelSummary, ...]:
        return self.snapshot.about.catalogue.models

    def trainings(self) -> tuple[TrainingSummary, ...]:
        return trainings_of(self.snapshot.trainings)

    def accelerators(self) -> tuple[AcceleratorSummary, ...]:
        return self.snapshot.about.catalogue.accelerators

    def cost(
        self,
        profile: Profile,
        *,
        capacity: str = "",
        region: str = "",
        output_input_cost_ratio: float = DEFAULT_RATIO,
    ) -> Cost:
        startup = profile.statistic("startup_s")
        return cost_of(
            self._prices.find(profile.machine, capacity, region),
            tokens_per_s=tokens_per_s(profile),
            startup_s=startup.value if startup else None,
            ratio=output_input_cost_ratio,
        )

    def _hardware(self, capacity: str, region: str) -> Hardware:
        """With the prices of that capacity type and region."""
        machines = self.snapshot.about.hardware
        found = tuple([self._prices.find(machine, capacity, region) for machine in machines])
        usd = [np.nan if isinstance(price, str) else price.usd_per_hour for price in found]
        usd_per_hour = np.array(usd or [np.nan], dtype=np.float64)
        num_chips = self.snapshot.num_chips.astype(np.float64)
        return Hardware(
            prices=found,
            num_chips=num_chips,
            divisor=np.where(num_chips > 0, num_chips, np.nan),
            usd_per_hour=usd_per_hour,
            any_priced=not np.isnan(usd_per_hour).all(),
        )


def _comments(hardware: Hardware, question: Question) -> Iterable[str]:
    if not hardware.any_priced:
        yield (
            "no price is known: nothing is ranked by cost; give your prices with --prices, and the "
            "same profiles are ranked anew"
        )
    if question.rate_rps is None and question.concurrency is None:
        yield "no load was asked: each deployment is shown at the load point that serves it best"


def _with_prices(snapshot_id: str, book: PriceBook) -> str:
    if not book.tables:
        return snapshot_id
    said = msgspec.json.encode([asdict(table) for table in book.tables])
    return f"{snapshot_id}-{hashlib.blake2b(said, digest_size=4).hexdigest()}"


def open_lookup(folder: Path, prices: PriceBook | None = None) -> TableLookup:
    """The snapshot that counts now. Raises LookupUnreadable."""
    return TableLookup(open_current(folder), prices)


def lookup_of(
    profiles: Sequence[Profile],
    prices: PriceBook | None = None,
    fruitless: Sequence[Fruitless] = (),
) -> TableLookup:
    """A table of these profiles (in the order of ``build``), in a folder that is gone at once: its
    files stay mapped. For tests, and for what is looked at once."""
    with tempfile.TemporaryDirectory(prefix="windtunnel-lookup-") as folder:
        write_snapshot(Path(folder), profiles, fruitless)
        return open_lookup(Path(folder), prices)

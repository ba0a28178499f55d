"""What is known of a study before its next trial: its own runs, and by fingerprint everybody's."""

from __future__ import annotations

from harness.cli.study_kept import Remembered
from harness.cli.tune_runs import STUDY, tags_of
from harness.trial import FINGERPRINT
from results.record import RunRecord
from results.store_files import FileStore
from results.store_index import RunIndex
from tuners.goals import Wish
from tuners.outcome import Transient, outcome_of


class Memory:
    """What the store knows of this study, and by fingerprint of every other; found by the index,
    which is asked for what is new. ``only_own``: other studies are not asked."""

    def __init__(
        self,
        store: FileStore,
        index: RunIndex,
        wish: Wish,
        study: str,
        *,
        only_own: bool = False,
    ) -> None:
        self.store, self.index, self._study = store, index, study
        self._known = Remembered(store, index, wish, study, only_own=only_own)
        self._records: dict[str, RunRecord] = {}  # this study's, by run id

    @property
    def wish(self) -> Wish:
        return self._known.wish

    @wish.setter
    def wish(self, wish: Wish) -> None:
        self._known.wish = wish

    def refresh(self) -> None:
        self.index.refresh()
        for run_id in self.index.tagged(STUDY, self._study):
            if run_id not in self._records:
                self.add(self.store.get(run_id))

    def add(self, record: RunRecord) -> None:
        """A run of this study, or one that answered a question of it."""
        tags = tags_of(record)
        if tags.get(STUDY) == self._study:
            self._records[record.run_id] = record
        if FINGERPRINT in tags and not isinstance(outcome_of(record, self.wish), Transient):
            self._known.keep(tags[FINGERPRINT], record)

    def answer(self, fingerprint: str) -> RunRecord | None:
        return self._known.get(fingerprint)

    def known(self, run_id: str) -> RunRecord | None:
        """A run of this study."""
        return self._records.get(run_id)

    def of_study(self) -> list[RunRecord]:
        """Oldest first."""
        return sorted(self._records.values(), key=lambda r: r.run_id)

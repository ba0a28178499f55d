"""When silence is too long: times handed in, no clock and no Ray."""

from __future__ import annotations

from harness.on_ray.train_news import Ending, RankNews
from harness.on_ray.train_watchdog import Watchdog, own_stacks, watch
from workloads.base import TrainEvent, TrainFacts, TrainPhase, TrainStep

STEP = TrainStep(0, 0.0, 1.0, 0.0, 1, 1.0, -1, False)
PHASE = TrainPhase("imports", 0.0, 1.0)


def news(*events: TrainEvent) -> RankNews:
    return RankNews(0, "node", 1, 0.0, 0.0, events)


def test_before_the_first_step_the_startups_deadline_rules() -> None:
    watchdog = Watchdog(5.0)
    watchdog.hear(news(PHASE), 10.0)
    watchdog.hear(news(TrainFacts({})), 10.0)
    assert watchdog.overdue_s(1e6) is None


def test_silence_is_counted_from_the_last_step_of_any_rank() -> None:
    watchdog = Watchdog(5.0)
    watchdog.hear(news(STEP), 10.0)
    watchdog.hear(news(STEP), 12.0)
    watchdog.hear(news(TrainFacts({})), 16.0)  # talking is not training
    assert watchdog.overdue_s(17.0) is None
    assert watchdog.overdue_s(17.5) == 5.5


def test_a_job_that_is_started_again_has_time_for_its_phases() -> None:
    watchdog = Watchdog(5.0)
    watchdog.hear(news(STEP), 10.0)
    watchdog.hear(news(PHASE), 14.0)
    assert watchdog.overdue_s(18.0) is None


def test_no_patience_is_no_watchdog() -> None:
    watchdog = Watchdog(0.0)
    watchdog.hear(news(STEP), 10.0)
    assert watchdog.overdue_s(1e6) is None


class Coach:
    def __init__(self, *silences: float | None) -> None:
        self._silences = list(silences)
        self.endings: list[Ending] = []

    def hung_s(self) -> float | None:
        if not self._silences:
            raise StopIteration
        return self._silences.pop(0)

    def stacks(self) -> tuple[str, ...]:
        return ("rank 0:", "  in a collective")

    def end(self, ending: Ending) -> None:
        self.endings.append(ending)


def test_a_job_that_hangs_is_ended_with_its_stacks() -> None:
    coach = Coach(600.4)
    watch(coach)
    (ending,) = coach.endings
    assert ending.error == "hang"
    assert "600 s" in ending.message
    assert ending.log_tail == ("rank 0:", "  in a collective")


def test_a_job_that_has_ended_is_watched_no_more() -> None:
    coach = Coach()
    watch(coach)
    assert coach.endings == []


def test_a_process_tells_where_its_threads_stand() -> None:
    import threading

    entered, leave = threading.Event(), threading.Event()

    def stands_here() -> None:
        entered.set()
        leave.wait(30)

    def enters() -> None:
        stands_here()

    thread = threading.Thread(target=enters, name="the loop")
    thread.start()
    try:
        entered.wait(10)
        told = own_stacks("enters")
        elsewhere = own_stacks("no function's name")
    finally:
        leave.set()
        thread.join()
    assert any("the loop" in line for line in told)
    frames = [line.rpartition(" in ")[2] for line in told if " in " in line]
    assert frames[:3] == ["enters", "stands_here", "wait"]
    assert elsewhere == ["  its training has not begun, or is over"]

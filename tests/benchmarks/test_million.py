"""The benchmark of a long load runs to its end, on a short one."""

from __future__ import annotations

from benchmarks.million import answer, exchanges, run
from harness.load.collect import collect
from harness.load.spool import Spool


def test_the_steps_of_a_short_load() -> None:
    rows = run(300, 4)
    assert [row["step"] for row in rows] == ["imports", "spool", "read", "measure", "judge", "seal"]
    peaks = [row["peak_mib"] for row in rows]
    assert peaks == sorted(peaks) and peaks[0] > 0


def test_its_answers_end_out_of_order_and_say_what_they_should() -> None:
    made = list(exchanges(50, 3, seed=1))
    assert [e.index for e in made] != sorted(e.index for e in made)
    spool = Spool()
    for exchange in made:
        spool.put(exchange)
    samples = collect(spool.read(), origin_s=0.0)
    assert samples.index.tolist() == list(range(50))
    assert set(samples.output_tokens) == {3} and set(samples.event_tokens) == {1}
    assert len(answer(3)) == 4

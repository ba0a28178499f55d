from __future__ import annotations

from results.measurement import Measurement
from results.twins import twins


def told(metric: str, p50: float, n: int = 10) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(metric=metric, statistic=s, value=v, n=n, reason="" if v else "too few")
        for s, v in (("p50", p50), ("p99", None))
    )


def test_what_is_equal_in_every_statistic_is_one_row() -> None:
    assert twins((*told("ttft_s", 0.1), *told("ttfa_s", 0.1), *told("e2e_s", 0.1))) == {
        "ttft_s": "ttfa_s"
    }


def test_another_value_or_number_of_samples_is_another_metric() -> None:
    assert twins((*told("ttft_s", 0.1), *told("ttfa_s", 0.2))) == {}
    assert twins((*told("itl_s", 0.1), *told("inter_chunk_s", 0.1, n=9))) == {}
    assert twins(told("itl_s", 0.1)) == {}

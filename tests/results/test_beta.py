"""Our beta function against scipy's."""

from __future__ import annotations

import pytest
from scipy import special, stats

from results.beta import beta_quantile, beta_share, binomial_share, student_quantile

SHAPES = [0.5, 1.0, 2.0, 9.5, 63.2, 660.0, 12_345.6, 1e6]


@pytest.mark.parametrize("a", SHAPES)
@pytest.mark.parametrize("b", SHAPES)
def test_the_share_and_its_inverse(a: float, b: float) -> None:
    for share in (1e-9, 0.005, 0.025, 0.3, 0.5, 0.975, 0.99999):
        x = float(special.betaincinv(a, b, share))
        assert beta_share(a, b, x) == pytest.approx(float(special.betainc(a, b, x)), rel=1e-7)
        # What rounding x itself is worth, where the beta distribution ends in a cliff.
        assert beta_quantile(a, b, share) == pytest.approx(x, rel=1e-8, abs=1e-300)
    assert beta_share(a, b, 0.0) == 0.0
    assert beta_share(a, b, 1.0) == 1.0


@pytest.mark.parametrize("n", [1, 20, 662, 10_000, 1_000_000])
@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_the_binomial(n: int, p: float) -> None:
    for k in sorted({0, n // 100, round(n * p), n - 1, n}):
        assert binomial_share(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-7)


@pytest.mark.parametrize("degrees", [1.0, 2.0, 4.0, 19.0, 300.0])
def test_students_t(degrees: float) -> None:
    for probability in (0.001, 0.025, 0.4, 0.5, 0.9, 0.975, 0.9875, 0.9999):
        expected = float(stats.t.ppf(probability, degrees))
        assert student_quantile(degrees, probability) == pytest.approx(expected, rel=1e-9)

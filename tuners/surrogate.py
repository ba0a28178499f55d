"""What a handful of trials says of all other configurations: a Gaussian process over logarithms,
around a forecast where there is one. Pure; numpy and scipy alone.

Of one statistic, at the encoded configuration x (``tuners.encoding``):

    y(x) = m(x) + c + b·(f(x) − f̄) + g(x) + noise

``f``: the logarithm of the forecast, and m = f; without one both are 0, and m is the mean of what
was seen. ``c``: by which common factor the forecast is off, ``b``: by which power of itself, ``g``:
a Matérn-5/2 process with a length scale for each knob, for all else. All of them have priors, so
that one trial already says something, and none says what the forecast does. Whether the forecast
helps at all is decided by the evidence: a process without one is fitted beside it, and taken where
it explains what was measured better by more than ``DOUBT``.

The parameters of the kernel are those of the highest posterior density (Rasmussen & Williams,
Gaussian Processes for Machine Learning, 2006: equations 2.30, 4.17, 5.8 and 5.9).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize

Array = npt.NDArray[np.float64]

DOUBT = 1.0  # in units of the log evidence: e times as likely
_JITTER = 1e-8
_SQRT5 = math.sqrt(5.0)
_MAX_STEPS = 40
_CLOSE = 1e-3  # in units of the log evidence; nobody sees the difference
_LEAST_NOISE, _MOST_NOISE = 0.003, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Of the parameters' logarithms: (mean, standard deviation). ``factor`` and ``power``: the
    standard deviations of ``c`` and of ``b``; ``middle``: the mean of ``c``."""

    length: tuple[float, float] = (math.log(0.8), 0.9)
    amplitude: tuple[float, float] = (math.log(0.3), 0.8)
    noise: tuple[float, float] = (math.log(0.03), 0.6)
    factor: float = 0.5
    power: float = 0.3
    middle: float = 0.0


AROUND_FORECAST = Prior()
ALONE = Prior(amplitude=(math.log(0.8), 0.7), factor=0.7, power=0.0)
# Of labels, −1 where it ran and 1 where it did not: most of a space is taken to run.
OF_FAILURES = Prior(
    length=(math.log(1.0), 0.7),
    amplitude=(math.log(0.8), 0.3),
    noise=(math.log(0.15), 0.3),
    factor=0.3,
    power=0.0,
    middle=-0.8,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """``x``: (n, features); ``owner``: (features,) the knob of each, for a length scale per knob;
    ``y``: (n,); ``slope``: (n,) f − f̄, and ``mean``: (n,) m; both 0 without a forecast."""

    x: Array
    owner: npt.NDArray[np.int64]
    y: Array
    mean: Array
    slope: Array

    @property
    def num_knobs(self) -> int:
        return int(self.owner.max()) + 1 if len(self.owner) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """A fitted process. ``theta``: logarithms of the length scales, the amplitude, the noise."""

    seen: Seen
    prior: Prior
    theta: Array
    evidence: float
    lower: Array = field(repr=False)  # (n, n) Cholesky factor of the kernel's matrix
    alpha: Array = field(repr=False)

    @property
    def noise(self) -> float:
        """The standard deviation of one reading."""
        return float(math.exp(self.theta[-1]))

    def at(self, x: Array, mean: Array, slope: Array) -> tuple[Array, Array]:
        """(mean, standard deviation) at (m, features), of the truth and not of a reading."""
        cross = _kernel(
            self.theta, self.prior, self.seen.owner, x, slope, self.seen.x, self.seen.slope
        )
        middle = mean + self.prior.middle + cross @ self.alpha
        half = linalg.solve_triangular(self.lower, cross.T, lower=True, check_finite=False)
        whole = math.exp(2 * self.theta[-2]) + self.prior.factor**2
        variance = whole + (self.prior.power * slope) ** 2 - (half**2).sum(axis=0)
        return middle, np.sqrt(np.maximum(variance, 1e-10))

    def imagined(
        self, x: Array, mean: Array, slope: Array, draws: Array
    ) -> tuple[Surrogate, Array]:
        """As if (q, features) had been measured: the process with them, and ``draws`` (s, q)
        standard normals as (s, n + q) residuals to take the means from (``means_at``)."""
        q = len(x)
        middle, _ = self.at(x, mean, slope)
        cross = _kernel(
            self.theta, self.prior, self.seen.owner, x, slope, self.seen.x, self.seen.slope
        )
        own = _kernel(self.theta, self.prior, self.seen.owner, x, slope, x, slope)
        half = linalg.solve_triangular(self.lower, cross.T, lower=True, check_finite=False)
        covariance = own - half.T @ half + (self.noise**2 + _JITTER) * np.eye(q)
        factor = linalg.cholesky(covariance, lower=True, check_finite=False)
        drawn = middle + draws @ factor.T
        seen = Seen(
            x=np.vstack([self.seen.x, x]),
            owner=self.seen.owner,
            y=np.append(self.seen.y, middle),
            mean=np.append(self.seen.mean, mean),
            slope=np.append(self.seen.slope, slope),
        )
        residuals = np.hstack(
            [
                np.tile(self.seen.y - self.seen.mean, (len(draws), 1)),
                drawn - mean,
            ]
        )
        return _with(seen, self.prior, self.theta, self.evidence), residuals - self.prior.middle

    def means_at(self, x: Array, mean: Array, slope: Array, residuals: Array) -> Array:
        """(s, m): the means under each row of ``residuals`` (s, n)."""
        cross = _kernel(
            self.theta, self.prior, self.seen.owner, x, slope, self.seen.x, self.seen.slope
        )
        weights = linalg.cho_solve((self.lower, True), residuals.T, check_finite=False)
        means: Array = mean + self.prior.middle + (cross @ weights).T
        return means


def fit(seen: Seen, prior: Prior, start: Array | None = None) -> Surrogate:
    """The parameters of the highest posterior density, from ``start`` or from the prior's middle.
    With nothing seen the prior's."""
    middle = np.array(
        [*[prior.length[0]] * seen.num_knobs, prior.amplitude[0], prior.noise[0]], dtype=np.float64
    )
    if not len(seen.y):
        return _with(seen, prior, middle, 0.0)
    bounds = [
        *[(math.log(0.05), math.log(20.0))] * seen.num_knobs,
        (math.log(0.005), math.log(5.0)),
        (math.log(_LEAST_NOISE), math.log(_MOST_NOISE)),
    ]
    apart = _squares(seen.x, seen.x, seen.owner)
    found = optimize.minimize(
        _loss,
        middle if start is None or len(start) != len(middle) else start,
        args=(seen, prior, apart),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _MAX_STEPS, "ftol": _CLOSE, "gtol": _CLOSE},
    )
    return _with(seen, prior, np.asarray(found.x), -float(found.fun))


def _with(seen: Seen, prior: Prior, theta: Array, evidence: float) -> Surrogate:
    n = len(seen.y)
    matrix = _kernel(theta, prior, seen.owner, seen.x, seen.slope, seen.x, seen.slope)
    matrix[np.diag_indices(n)] += math.exp(2 * theta[-1]) + _JITTER
    lower = linalg.cholesky(matrix, lower=True, check_finite=False) if n else matrix
    residual = seen.y - seen.mean - prior.middle
    alpha = linalg.cho_solve((lower, True), residual, check_finite=False) if n else residual
    return Surrogate(
        seen=seen, prior=prior, theta=theta, evidence=evidence, lower=lower, alpha=alpha
    )


def _kernel(
    theta: Array,
    prior: Prior,
    owner: npt.NDArray[np.int64],
    x: Array,
    slope: Array,
    other: Array,
    other_slope: Array,
) -> Array:
    """(len(x), len(other)), without the noise."""
    weights = np.exp(-theta[:-2])[owner] if len(owner) else np.zeros(0)
    a, b = x * weights, other * weights
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2.0 * a @ b.T
    matern: Array = _matern(np.maximum(squares, 0.0)) * math.exp(2 * theta[-2])
    return matern + prior.factor**2 + prior.power**2 * np.outer(slope, other_slope)


def _matern(squares: Array) -> Array:
    far = _SQRT5 * np.sqrt(squares)
    found: Array = (1.0 + far + far**2 / 3.0) * np.exp(-far)
    return found


def _squares(x: Array, other: Array, owner: npt.NDArray[np.int64]) -> Array:
    """(knobs, n, m): the squared distance along each knob."""
    found = np.zeros((int(owner.max()) + 1 if len(owner) else 0, len(x), len(other)))
    for column, knob in enumerate(owner):
        found[knob] += (x[:, column][:, None] - other[:, column][None, :]) ** 2
    return found


def _loss(theta: Array, seen: Seen, prior: Prior, apart: Array) -> tuple[float, Array]:
    """Minus the log posterior density and its gradient."""
    n, residual = len(seen.y), seen.y - seen.mean - prior.middle
    scales = np.exp(-2.0 * theta[:-2])
    squares = np.tensordot(scales, apart, axes=1)
    far = _SQRT5 * np.sqrt(squares)
    decay = np.exp(-far) * math.exp(2 * theta[-2])
    matern = (1.0 + far + far**2 / 3.0) * decay
    noise = math.exp(2 * theta[-1])
    whole = matern + prior.factor**2 + prior.power**2 * np.outer(seen.slope, seen.slope)
    whole[np.diag_indices(n)] += noise + _JITTER
    lower = linalg.cholesky(whole, lower=True, check_finite=False)
    inverse = linalg.cho_solve((lower, True), np.eye(n), check_finite=False)
    alpha = inverse @ residual
    value = 0.5 * residual @ alpha + np.log(np.diag(lower)).sum() + 0.5 * n * math.log(2 * math.pi)
    inner = 0.5 * (inverse - np.outer(alpha, alpha))  # ∂value/∂K
    # ∂Matérn/∂(log length of a knob) = 5/3·(1 + √5·r)·exp(−√5·r)·(its share of r²)
    shape = inner * (5.0 / 3.0) * (1.0 + far) * decay
    gradient = np.empty_like(theta)
    gradient[:-2] = np.tensordot(apart, shape, axes=([1, 2], [0, 1])) * scales
    gradient[-2] = 2.0 * (inner * matern).sum()
    gradient[-1] = 2.0 * noise * np.trace(inner)
    means = np.array([*[prior.length[0]] * (len(theta) - 2), prior.amplitude[0], prior.noise[0]])
    spreads = np.array([*[prior.length[1]] * (len(theta) - 2), prior.amplitude[1], prior.noise[1]])
    far_off = (theta - means) / spreads
    return float(value + 0.5 * (far_off**2).sum()), gradient + far_off / spreads

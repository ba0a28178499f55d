"""What a handful of trials says of all other configurations: a Gaussian process over logarithms,
around a forecast where there is one. Pure; numpy and scipy alone.

Of one statistic, at the encoded configuration x (``tuners.encoding``):

    y(x) = m(x) + c + b·(f(x) − f̄) + g(x) + noise

``f``: the logarithm of the forecast, and m = f; without one both are 0, and m is the mean of what
was seen. ``c``: by which common factor the forecast is off, ``b``: by which power of itself, ``g``:
all else. All of them have priors, so that one trial already says something, and none says what the
forecast does.

``g`` is a sum: what each knob does by itself, what pairs of them do, and what all do together, each
with an amplitude that is learned (additive kernels: Duvenaud, Nickisch & Rasmussen, Additive
Gaussian Processes, NIPS 2011, equations 4 to 8). Knobs of a deployment act mostly by themselves,
and what one does can be learned from trials that differ in all others. Along one knob the process
is Matérn-5/2 with a length scale of its own.

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
Owner = npt.NDArray[np.int64]

_JITTER = 1e-8
_SQRT5 = math.sqrt(5.0)
_MAX_STEPS = 40
_CLOSE = 1e-3  # in units of the log evidence; nobody sees the difference
_LEAST_NOISE, _MOST_NOISE = 0.003, 1.0
_NUM_OTHERS = 4  # parameters after the length scales: three amplitudes, the noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Of the parameters' logarithms: (mean, standard deviation). ``alone``, ``pairs``, ``whole``:
    the amplitudes of what knobs do one by one, two by two and all together. ``factor`` and
    ``power``: the standard deviations of ``c`` and of ``b``; ``middle``: the mean of ``c``."""

    length: tuple[float, float] = (math.log(1.0), 0.9)
    alone: tuple[float, float] = (math.log(0.3), 0.8)
    pairs: tuple[float, float] = (math.log(0.2), 0.8)
    whole: tuple[float, float] = (math.log(0.1), 0.8)
    noise: tuple[float, float] = (math.log(0.03), 0.6)
    factor: float = 0.5
    power: float = 0.3
    middle: float = 0.0

    def of(self, num_knobs: int) -> tuple[Array, Array]:
        """The means and the standard deviations of all parameters."""
        every = [self.length] * num_knobs + [self.alone, self.pairs, self.whole, self.noise]
        return np.array([m for m, _ in every]), np.array([s for _, s in every])


AROUND_FORECAST = Prior()
ALONE = Prior(
    alone=(math.log(0.5), 0.7),
    pairs=(math.log(0.6), 0.7),
    whole=(math.log(0.5), 0.7),
    factor=0.7,
    power=0.0,
)
# Of labels, −1 where it ran and 1 where it did not: most of a space is taken to run.
OF_FAILURES = Prior(
    length=(math.log(1.0), 0.7),
    alone=(math.log(0.8), 0.3),
    pairs=(math.log(0.4), 0.3),
    whole=(math.log(0.2), 0.3),
    noise=(math.log(0.15), 0.3),
    factor=0.3,
    power=0.0,
    middle=-0.8,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """(m) encoded configurations: of each knob its distinct places (u, columns) and which of them
    a configuration has (m,). Knobs have few values, and a kernel along a knob needs no more."""

    values: tuple[Array, ...]
    at: tuple[npt.NDArray[np.intp], ...]

    def __len__(self) -> int:
        return len(self.at[0]) if self.at else 0


def rows_of(x: Array, owner: Owner) -> Rows:
    """``x``: (m, columns); ``owner``: (columns,)."""
    values, at = [], []
    for knob in range(int(owner.max()) + 1 if len(owner) else 0):
        columns = x[:, owner == knob]
        axis = None if columns.shape[1] == 1 else 0  # of one column by far the quicker way
        found, inverse = np.unique(columns, axis=axis, return_inverse=True)
        values.append(found.reshape(-1, columns.shape[1]))
        at.append(inverse.reshape(-1))
    return Rows(values=tuple(values), at=tuple(at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """``x``: (n, columns); ``owner``: (columns,) the knob of each, for a length scale per knob;
    ``y``: (n,); ``slope``: (n,) f − f̄, and ``mean``: (n,) m; both 0 without a forecast."""

    x: Array
    owner: Owner
    y: Array
    mean: Array
    slope: Array

    @property
    def num_knobs(self) -> int:
        return int(self.owner.max()) + 1 if len(self.owner) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """A fitted process. ``theta``: logarithms of the length scales, the amplitudes, the noise."""

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

    def at(self, rows: Rows, mean: Array, slope: Array) -> tuple[Array, Array]:
        """(mean, standard deviation) at (m) rows, of the truth and not of a reading."""
        cross = self._cross(rows, slope)
        middle = mean + self.prior.middle + cross @ self.alpha
        return middle, self._spread(cross, slope)

    def _cross(self, rows: Rows, slope: Array) -> Array:
        """(m, n): the covariance with what was seen."""
        x, owner = self.seen.x, self.seen.owner
        alike = []
        for knob, values in enumerate(rows.values):
            apart = _squares(values, x[:, owner == knob])
            table = _matern(apart * math.exp(-2.0 * self.theta[knob]))
            alike.append(table[rows.at[knob]])
        size = (len(rows.values), len(slope), len(x))
        found: Array = (
            _together(np.array(alike).reshape(size), self.theta)
            + self.prior.factor**2
            + self.prior.power**2 * np.outer(slope, self.seen.slope)
        )
        return found

    def _spread(self, cross: Array, slope: Array) -> Array:
        half = linalg.solve_triangular(self.lower, cross.T, lower=True, check_finite=False)
        whole = _variance(self.theta, self.seen.num_knobs) + self.prior.factor**2
        variance = whole + (self.prior.power * slope) ** 2 - (half**2).sum(axis=0)
        found: Array = np.sqrt(np.maximum(variance, 1e-10))
        return found

    def imagined(
        self, x: Array, mean: Array, slope: Array, draws: Array
    ) -> tuple[Surrogate, Array]:
        """As if (q, columns) had been measured: the process with them, and ``draws`` (s, q)
        standard normals as (s, n + q) residuals to take the means from (``means_at``)."""
        q = len(x)
        rows = rows_of(x, self.seen.owner)
        cross = self._cross(rows, slope)
        middle = mean + self.prior.middle + cross @ self.alpha
        own = _matrix(self.theta, self.prior, _apart(x, self.seen.owner), slope)
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

    def means_at(
        self, rows: Rows, mean: Array, slope: Array, residuals: Array
    ) -> tuple[Array, Array]:
        """The means under each row of ``residuals`` (s, n): (s, m), and the spread: (m,)."""
        cross = self._cross(rows, slope)
        weights = linalg.cho_solve((self.lower, True), residuals.T, check_finite=False)
        means: Array = mean + self.prior.middle + (cross @ weights).T
        return means, self._spread(cross, slope)


def fit(seen: Seen, prior: Prior, start: Array | None = None) -> Surrogate:
    """The parameters of the highest posterior density, from ``start`` or from the prior's middle.
    With nothing seen the prior's."""
    middle, _ = prior.of(seen.num_knobs)
    if not len(seen.y):
        return _with(seen, prior, middle, 0.0)
    bounds = [
        *[(math.log(0.05), math.log(20.0))] * seen.num_knobs,
        *[(math.log(0.005), math.log(5.0))] * (_NUM_OTHERS - 1),
        (math.log(_LEAST_NOISE), math.log(_MOST_NOISE)),
    ]
    found = optimize.minimize(
        _loss,
        middle if start is None or len(start) != len(middle) else start,
        args=(seen, prior, _apart(seen.x, seen.owner)),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _MAX_STEPS, "ftol": _CLOSE, "gtol": _CLOSE},
    )
    return _with(seen, prior, np.asarray(found.x), -float(found.fun))


def _with(seen: Seen, prior: Prior, theta: Array, evidence: float) -> Surrogate:
    n = len(seen.y)
    matrix = _matrix(theta, prior, _apart(seen.x, seen.owner), seen.slope)
    matrix[np.diag_indices(n)] += math.exp(2 * theta[-1]) + _JITTER
    lower = linalg.cholesky(matrix, lower=True, check_finite=False) if n else matrix
    residual = seen.y - seen.mean - prior.middle
    alpha = linalg.cho_solve((lower, True), residual, check_finite=False) if n else residual
    return Surrogate(
        seen=seen, prior=prior, theta=theta, evidence=evidence, lower=lower, alpha=alpha
    )


def _matrix(theta: Array, prior: Prior, apart: Array, slope: Array) -> Array:
    """(n, n), without the noise; ``apart``: (knobs, n, n)."""
    scales = np.exp(-2.0 * theta[: len(apart)])
    smooth = _together(_matern(apart * scales[:, None, None]), theta)
    found: Array = smooth + prior.factor**2 + prior.power**2 * np.outer(slope, slope)
    return found


def _together(alike: Array, theta: Array) -> Array:
    """The sum over orders of what (knobs, n, m) kernels along each knob make of them; of each
    order the mean over its combinations, so that an amplitude is that of all of them."""
    one, two, whole = _shares(theta, len(alike))
    total = alike.sum(axis=0)
    found: Array = one * total + whole * alike.prod(axis=0)
    if len(alike) > 1:
        found = found + two * 0.5 * (total**2 - (alike**2).sum(axis=0))
    return found


def _shares(theta: Array, num_knobs: int) -> tuple[float, float, float]:
    """The variance of one combination of each order."""
    one, two, whole = np.exp(2.0 * theta[-_NUM_OTHERS:-1])
    pairs = num_knobs * (num_knobs - 1) / 2
    return float(one / max(1, num_knobs)), float(two / max(1.0, pairs)), float(whole)


def _variance(theta: Array, num_knobs: int) -> float:
    """Of the smooth part at one place."""
    one, two, whole = np.exp(2.0 * theta[-_NUM_OTHERS:-1])
    return float((one if num_knobs else 0.0) + (two if num_knobs > 1 else 0.0) + whole)


def _matern(squares: Array) -> Array:
    far = _SQRT5 * np.sqrt(squares)
    found: Array = (1.0 + far + far**2 / 3.0) * np.exp(-far)
    return found


def _squares(a: Array, b: Array) -> Array:
    """(len(a), len(b)) squared distances."""
    found: Array = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=-1)
    return found


def _apart(x: Array, owner: Owner) -> Array:
    """(knobs, n, n): the squared distance along each knob."""
    many = int(owner.max()) + 1 if len(owner) else 0
    found = np.zeros((many, len(x), len(x)))
    for knob in range(many):
        columns = x[:, owner == knob]
        found[knob] = _squares(columns, columns)
    return found


def _loss(theta: Array, seen: Seen, prior: Prior, apart: Array) -> tuple[float, Array]:
    """Minus the log posterior density and its gradient."""
    n, many = len(seen.y), len(apart)
    residual = seen.y - seen.mean - prior.middle
    far = _SQRT5 * np.sqrt(apart) * np.exp(-theta[:many])[:, None, None]
    decay = np.exp(-far)
    alike = (1.0 + far + far**2 / 3.0) * decay
    one, two, whole = _shares(theta, many)
    total, product = alike.sum(axis=0), alike.prod(axis=0)
    both = 0.5 * (total**2 - (alike**2).sum(axis=0))
    noise = math.exp(2 * theta[-1])
    matrix = one * total + two * both + whole * product
    matrix += prior.factor**2 + prior.power**2 * np.outer(seen.slope, seen.slope)
    matrix[np.diag_indices(n)] += noise + _JITTER
    lower = linalg.cholesky(matrix, lower=True, check_finite=False)
    inverse = linalg.cho_solve((lower, True), np.eye(n), check_finite=False)
    alpha = inverse @ residual
    value = 0.5 * residual @ alpha + np.log(np.diag(lower)).sum() + 0.5 * n * math.log(2 * math.pi)
    inner = 0.5 * (inverse - np.outer(alpha, alpha))  # ∂value/∂K
    # ∂(Matérn along a knob)/∂(log of its length) = (1 + √5·r)·exp(−√5·r)·5/3·r²
    slopes = (1.0 + far) * decay * far**2 / 3.0
    parts = slopes * (one + two * (total - alike) + whole * product / alike)
    gradient = np.empty_like(theta)
    gradient[:many] = (parts * inner).sum(axis=(1, 2))
    gradient[many:-1] = [
        2.0 * share * float((inner * part).sum())
        for share, part in ((one, total), (two, both), (whole, product))
    ]
    gradient[-1] = 2.0 * noise * np.trace(inner)
    means, spreads = prior.of(many)
    off = (theta - means) / spreads
    return float(value + 0.5 * (off**2).sum()), gradient + off / spreads

"""Scaling models: what a chip's share of the work costs at n chips, against n₀.

Every model says how the cost per token and chip, ``c(n) = 1/E(n)``, grows: a level and a
non-negative mix of growth terms, all of them 0 at n₀. That is linear in what is fitted, so that a
fit is one non-negative least-squares problem (``scipy.optimize.nnls``) with one answer. Gustafson's
law is as linear in E itself and is fitted there.

Sources: Amdahl 1967 and Gustafson 1988 (the serial shares); Gunther, Guerrilla Capacity Planning,
2007 (USL: contention and coherency); Thakur, Rabenseifner & Gropp, IJHPCA 19, 2005 (α–β costs of
ring and tree collectives). ``c·log2 n`` and the step of a two-level network are rules of thumb.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

Floats = npt.NDArray[np.float64]
Mode = Literal["weak", "strong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where a curve is fitted. ``n0`` is the size that everything is relative to.

    ``domain`` chips share the fast network (an NVLink host or rack, a TPU slice); None: not known,
    the network then counts as one level. In ``weak`` mode the work per chip is constant, in
    ``strong`` mode the work of all chips together.
    """

    n0: float
    mode: Mode = "weak"
    domain: float | None = None

    def num_domains(self, n: Floats) -> Floats:
        """(k,) fast domains that n chips fill, at least one; each chip is one where not known."""
        return np.maximum(1.0, n / self.domain) if self.domain else n


Term = Callable[[Floats, Scope], Floats]


def _linear(n: Floats, scope: Scope) -> Floats:
    return n / scope.n0 - 1.0


def _quadratic(n: Floats, scope: Scope) -> Floats:
    m = n / scope.n0
    return m * (m - 1.0)


def _log(n: Floats, scope: Scope) -> Floats:
    return np.asarray(np.log2(n / scope.n0))


def _exposed(term: Term) -> Term:
    """A time per step as a share of the work per chip, which shrinks with n in strong mode."""

    def seen(n: Floats, scope: Scope) -> Floats:
        return term(n, scope) * (n / scope.n0 if scope.mode == "strong" else 1.0)

    return seen


def _volume(n: Floats, scope: Scope) -> Floats:
    """2(n − 1)/n of the gradients cross each link of a ring: soon constant."""
    return 1.0 - scope.n0 / n


def _outer_ring(n: Floats, scope: Scope) -> Floats:
    """2(d − 1) messages one after the other, over d domains."""
    first = float(scope.num_domains(np.array([scope.n0]))[0])
    return (scope.num_domains(n) - first) / first


def _outer_tree(n: Floats, scope: Scope) -> Floats:
    """2 log2 d messages one after the other."""
    first = float(scope.num_domains(np.array([scope.n0]))[0])
    return np.asarray(np.log2(scope.num_domains(n) / first))


def _first_peer(n: Floats, scope: Scope) -> Floats:
    """What talking at all costs once: hooks, copies, kernels that a chip alone does not need."""
    return _after(n, scope, 1.0)


def _first_exit(n: Floats, scope: Scope) -> Floats:
    """What leaving the fast domain costs once: a collective gets one more stage."""
    return _after(n, scope, scope.domain) if scope.domain else np.zeros(len(n))


def _after(n: Floats, scope: Scope, border: float) -> Floats:
    """1 beyond a border that n₀ is within."""
    return np.where((n > border) & (scope.n0 <= border), 1.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """``terms``: the growth of the cost. ``in_efficiency``: Gustafson's, linear in E."""

    name: str
    formula: str
    terms: tuple[Term, ...] = ()
    in_efficiency: bool = False
    modes: tuple[Mode, ...] = ("weak", "strong")


MODELS: tuple[Model, ...] = (
    Model(name="amdahl", formula="1/(1 + σ(m − 1))", terms=(_linear,)),
    Model(name="gustafson", formula="1 − s(1 − 1/m)", in_efficiency=True, modes=("weak",)),
    Model(name="usl", formula="1/(1 + σ(m − 1) + κm(m − 1))", terms=(_linear, _quadratic)),
    Model(name="log", formula="1/(1 + c·log2 m)", terms=(_log,)),
    Model(
        name="ring",
        formula="1/(1 + α(m − 1) + β(1 − 1/m))",
        terms=(_exposed(_linear), _exposed(_volume)),
    ),
    Model(
        name="tree",
        formula="1/(1 + α·log2 m + β(1 − 1/m))",
        terms=(_exposed(_log), _exposed(_volume)),
    ),
    Model(
        name="two_level_ring",
        formula="1/(1 + step + α(d − 1))",
        terms=(_exposed(_first_peer), _exposed(_first_exit), _exposed(_outer_ring)),
    ),
    Model(
        name="two_level_tree",
        formula="1/(1 + step + α·log2 d)",
        terms=(_exposed(_first_peer), _exposed(_first_exit), _exposed(_outer_tree)),
    ),
)


def models_for(scope: Scope) -> tuple[Model, ...]:
    return tuple(model for model in MODELS if scope.mode in model.modes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """``weights``: the level and one weight per term, all ≥ 0."""

    model: Model
    scope: Scope
    weights: Floats = field(repr=False)

    def throughput(self, n: Sequence[float] | Floats) -> Floats:
        """(k,) per chip, in the unit that was fitted."""
        sizes = np.asarray(n, dtype=np.float64)
        value = _design(self.model, self.scope, sizes) @ self.weights
        return np.asarray(value if self.model.in_efficiency else 1.0 / value)

    @property
    def num_free(self) -> int:
        """Weights that are not 0: those that the data had to pay for."""
        return int((self.weights > 0).sum())

    @property
    def parameters(self) -> tuple[float, ...]:
        """Each term's share of the level: σ, κ, c, α, β, step or s of the formula."""
        level = float(self.weights[0])
        if self.model.in_efficiency:  # p + q/m = (p + q)(1 − s(1 − 1/m)) with s = q/(p + q)
            return (float(self.weights[1] / self.weights.sum()),)
        return tuple(float(w) / level for w in self.weights[1:])


def fit(model: Model, scope: Scope, n: Floats, throughput: Floats, relative_error: Floats) -> Fit:
    """Weighted non-negative least squares. ``n``, ``throughput`` (per chip) and its
    ``relative_error`` (one standard deviation) are (k,), all > 0."""
    target = throughput if model.in_efficiency else 1.0 / throughput
    weight = 1.0 / (target * relative_error)
    weights, _ = nnls(_design(model, scope, n) * weight[:, None], target * weight)
    return Fit(model=model, scope=scope, weights=np.asarray(weights))


def refit(fitted: Fit, n: Floats, varied: Floats, relative_error: Floats, at: float) -> Floats:
    """(r,) throughputs at size ``at`` of the same model, fitted anew to each row of ``varied``
    (r, k); the weights of the sizes are the fit's, once for all rows."""
    model, scope = fitted.model, fitted.scope
    targets = varied if model.in_efficiency else 1.0 / varied
    weight = 1.0 / (fitted.throughput(n) ** (1.0 if model.in_efficiency else -1.0) * relative_error)
    design = _design(model, scope, n) * weight[:, None]
    there = _design(model, scope, np.array([at]))[0]
    values = np.array([there @ nnls(design, row)[0] for row in targets * weight])
    return np.asarray(values if model.in_efficiency else 1.0 / values)


def _design(model: Model, scope: Scope, n: Floats) -> Floats:
    """(k, 1 + terms)."""
    if model.in_efficiency:
        return np.stack([np.ones(len(n)), scope.n0 / n], axis=1)
    return np.stack([np.ones(len(n)), *(term(n, scope) for term in model.terms)], axis=1)

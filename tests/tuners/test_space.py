"""Spaces as data: branches hold every configuration once, and nonsense is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuners.errors import SpaceError
from tuners.seeds import key
from tuners.space import (
    Categorical,
    Integers,
    Knob,
    Ordinal,
    Reals,
    Space,
    Value,
    legal,
    num_values,
    values_of,
)

SEQS = Knob(path="a.max-num-seqs", domain=Ordinal(values=(None, 1, 2, 4)))
QUANT = Knob(path="a.quantization", domain=Categorical(values=(None, "fp8", "awq")))
SCALE = Knob(path="a.scale", domain=Integers(low=1, high=3), when={"a.quantization": ("fp8",)})


def test_a_space_without_conditions_is_one_branch() -> None:
    (branch,) = Space(knobs=(SEQS, QUANT)).branches()
    assert branch.num_points == 12
    assert len({key(c) for c in branch.grid()}) == 12


def test_values_that_lead_to_the_same_knobs_stay_together() -> None:
    branches = Space(knobs=(SEQS, QUANT, SCALE)).branches()
    assert [sorted(k.path for k in b.knobs) for b in branches] == [
        ["a.max-num-seqs", "a.quantization"],
        ["a.max-num-seqs", "a.scale"],
    ]
    assert branches[1].fixed == {"a.quantization": "fp8"}
    assert "fp8" in branches[1].name


@given(st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2, unique=True), st.booleans())
def test_branches_hold_every_configuration_once(values: list[str], nested: bool) -> None:
    """Against a plain enumeration: each knob's values, or its absence where a condition fails."""
    first = Knob(path="p", domain=Categorical(values=("x", "y", "z")))
    second = Knob(path="q", domain=Ordinal(values=(1, 2)), when={"p": tuple(values)})
    third = Knob(path="r", domain=Categorical(values=(True, False)), when={"q": (2,)})
    knobs = (first, second, third) if nested else (first, second)
    expected = set()
    for p, q, r in itertools.product("xyz", (1, 2), (True, False)):
        config: dict[str, Value] = {"p": p}
        if p in values:
            config["q"] = q
            if nested and q == 2:
                config["r"] = r
        expected.add(key(config))
    space = Space(knobs=knobs)
    found = [key(c) for branch in space.branches() for c in branch.grid()]
    assert sorted(found, key=str) == sorted(expected, key=str)
    for branch in space.branches():
        for config in branch.grid():
            assert space.branch_of(config) == branch


def test_true_is_not_one() -> None:
    assert legal(Categorical(values=(True, 1)), True)
    assert not legal(Categorical(values=(0, 1)), True)
    assert not legal(Integers(low=0, high=3), True)
    assert num_values(Categorical(values=(True, 1))) == 2


def test_a_whole_number_is_on_its_grid_or_not_legal() -> None:
    domain = Integers(low=2, high=10, step=4)
    assert values_of(domain) == (2, 6, 10)
    assert [n for n in range(12) if legal(domain, n)] == [2, 6, 10]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Ordinal(values=(4, 2)), "rise"),
        (lambda: Ordinal(values=(1, None)), "first"),
        (lambda: Ordinal(values=("a",)), "numbers"),
        (lambda: Categorical(values=("a", "a")), "once"),
        (lambda: Integers(low=1, high=6, step=2), "the last they reach is 5"),
        (lambda: Reals(low=0.0, high=1.0, log=True), "above 0"),
        (lambda: Reals(low=2.0, high=1.0), "low below its high"),
        (lambda: Space(knobs=()), "nothing to choose"),
        (lambda: Space(knobs=(SEQS, SEQS)), "twice"),
        (lambda: Space(knobs=(SCALE, QUANT)), "before it"),
        (
            lambda: Space(
                knobs=(QUANT, Knob(path="b", domain=SEQS.domain, when={QUANT.path: ("gptq",)}))
            ),
            "gptq",
        ),
        (
            lambda: Space(
                knobs=(
                    Knob(path="u", domain=Reals(low=0.1, high=0.9)),
                    Knob(path="b", domain=SEQS.domain, when={"u": (0.5,)}),
                )
            ),
            "range",
        ),
    ],
)
def test_nonsense_is_refused(make: object, says: str) -> None:
    with pytest.raises(SpaceError, match=says):
        make()  # type: ignore[operator]


def test_a_continuous_range_cannot_be_listed() -> None:
    with pytest.raises(SpaceError, match="continuous"):
        values_of(Reals(low=0.1, high=0.9))


def test_a_huge_range_is_counted_without_being_listed() -> None:
    domain = Integers(low=1, high=2**53 - 1, step=2)
    assert num_values(domain) == 2**52
    with pytest.raises(SpaceError, match="2⁵³"):
        Integers(low=0, high=2**53 + 1)

"""From one training spec to the runs of a scaling experiment. Pure.

Every size is a spec of its own that goes through the runner like any other; tags say which size,
round and role a record has. Rounds go up and down in turn (ABBA), so that a machine that warms up
or a neighbour that wakes does not count for one size alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from harness.errors import SpecError
from harness.spec import Hardware, RunSpec
from harness.specfile import spec_to_mapping
from results.environment import stable_hash
from results.scaling.models import Mode
from results.scaling.runs import CONTROL, TAG_ASK, TAG_ROLE, TAG_ROUND, TAG_WORKERS
from workloads.registry import Role, role_of

RUN = "run"
_ALONE = "none"  # of a workload's ``communication``: each rank trains by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleAsk:
    """``workers`` ascending. ``control``: every size above 1 also without any exchange."""

    base: RunSpec
    workers: tuple[int, ...]
    mode: Mode
    num_rounds: int
    control: bool
    domain: int | None = None
    predict: tuple[int, ...] = ()

    @property
    def ask_hash(self) -> str:
        """Of what must be the same for records to be points of one curve; sizes and rounds may be
        added to an experiment later."""
        base = spec_to_mapping(replace(self.base, tags={}, num_repeats=1, redeploy=True))
        return stable_hash({"base": base, "mode": self.mode})

    @property
    def global_batch(self) -> int | None:
        """Sequences of one micro-step over all workers, in strong mode."""
        return _global_batch(self.base) if self.mode == "strong" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run to make."""

    num_workers: int
    round_index: int
    is_control: bool
    spec: RunSpec

    @property
    def key(self) -> tuple[int, int, bool]:
        return self.num_workers, self.round_index, self.is_control

    @property
    def words(self) -> str:
        each = "each alone, " if self.is_control else ""
        workers = "1 worker" if self.num_workers == 1 else f"{self.num_workers} workers"
        return f"{workers}, {each}round {self.round_index + 1}"


def make_ask(
    base: RunSpec,
    workers: Sequence[int],
    *,
    mode: Mode,
    num_rounds: int,
    control: bool | None,
    domain: int | None = None,
    predict: Sequence[int] = (),
) -> ScaleAsk:
    """Refuses what cannot be scaled. ``control`` None: where the workload can and no accelerator is
    asked for, because there ranks share cores. Raises SpecError."""
    kind = base.workload.kind
    if role_of(base.workload) is not Role.TRAINING:
        raise SpecError(
            f"scale needs a training workload, one with num_workers; {base.name} is {kind!r}"
        )
    if len(set(workers)) != len(workers) or len(workers) < 2:
        raise SpecError(
            f"--workers {','.join(map(str, workers))}: name two different sizes at least"
        )
    if any(ask.topology for ask in base.hardware):
        raise SpecError(
            f"{base.name}: hardware.topology fixes the number of chips, so it cannot be scaled; "
            "leave it out and let num_chips follow the workers"
        )
    can = can_train_alone(base)
    if control and not can:
        raise SpecError(f"--control: the {kind} workload has no `communication: none`")
    if control is None:
        control = can and all(ask.accelerator == "cpu" for ask in base.hardware)
    ask = ScaleAsk(
        base=base,
        workers=tuple(sorted(workers)),
        mode=mode,
        num_rounds=num_rounds,
        control=control,
        domain=domain,
        predict=tuple(sorted(set(predict))),
    )
    if mode == "strong":
        _require_divisible(ask)
    return ask


def can_train_alone(spec: RunSpec) -> bool:
    """Whether the workload has a control: the same ranks without exchange."""
    return _has(spec, "communication")


def cells_of(ask: ScaleAsk) -> tuple[Cell, ...]:
    """All runs in the order to make them."""
    found = []
    for index in range(ask.num_rounds):
        one_round = [
            Cell(
                num_workers=n,
                round_index=index,
                is_control=alone,
                spec=_spec_of(ask, n, index, alone),
            )
            for n in ask.workers
            for alone in ((False, True) if ask.control and n > 1 else (False,))
        ]
        found += one_round if index % 2 == 0 else one_round[::-1]
    return tuple(found)


def _spec_of(ask: ScaleAsk, n: int, round_index: int, alone: bool) -> RunSpec:
    base = ask.base
    params: Any = base.workload
    changed: dict[str, Any] = {"num_workers": n}
    if ask.mode == "strong":
        changed["micro_batch_size"] = _global_batch(base) // n
    elif getattr(params, "global_batch_size", None) is not None:
        # It checks the product, which follows the workers here.
        changed["global_batch_size"] = params.global_batch_size * n // params.num_workers
    if alone:
        changed["communication"] = _ALONE
    tags = {
        **base.tags,
        TAG_ASK: ask.ask_hash,
        TAG_WORKERS: str(n),
        TAG_ROUND: str(round_index),
        TAG_ROLE: CONTROL if alone else RUN,
    }
    return replace(
        base,
        name=f"{base.name}-{n}w{'-alone' if alone else ''}",
        workload=replace(params, **changed),
        hardware=tuple(_hardware_of(h, base, n) for h in base.hardware),
        num_repeats=1,
        redeploy=True,
        tags=tags,
    )


def _hardware_of(hardware: Hardware, base: RunSpec, n: int) -> Hardware:
    """As many chips per worker as the spec has. Raises SpecError where that is no whole number."""
    if not hardware.num_chips:
        return hardware  # one per worker, or none
    of_base = _num_workers(base)
    if hardware.num_chips % of_base:
        raise SpecError(
            f"{base.name}: hardware.num_chips is {hardware.num_chips} for {of_base} workers, which "
            "is no whole number for each; leave num_chips out or make it one"
        )
    return replace(hardware, num_chips=hardware.num_chips // of_base * n)


def _require_divisible(ask: ScaleAsk) -> None:
    if not _has(ask.base, "micro_batch_size"):
        raise SpecError(
            f"--mode strong divides the batch of a step among the workers, but the "
            f"{ask.base.workload.kind} workload has no micro_batch_size; use --mode weak"
        )
    batch = _global_batch(ask.base)
    wrong = [n for n in ask.workers if batch % n]
    if wrong:
        legal = [n for n in range(1, batch + 1) if batch % n == 0]
        raise SpecError(
            f"--mode strong keeps the batch of all workers at {batch} sequences (num_workers x "
            f"micro_batch_size of the spec), which {', '.join(map(str, wrong))} workers cannot "
            f"share evenly; legal are {', '.join(map(str, legal))}"
        )


def _has(spec: RunSpec, name: str) -> bool:
    return any(f.name == name for f in fields(spec.workload))


def _num_workers(spec: RunSpec) -> int:
    return cast(int, cast(Any, spec.workload).num_workers)


def _global_batch(spec: RunSpec) -> int:
    return _num_workers(spec) * cast(int, cast(Any, spec.workload).micro_batch_size)

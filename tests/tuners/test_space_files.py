"""Spaces as data: the shipped files are spaces of the specs they name; a study takes from them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from harness.cli.tune_runs import configured
from harness.spec import RunSpec
from tuners.errors import SpaceError
from tuners.space import Space, values_of
from tuners.space_files import KnobSpec, SpaceFile, joined, read_space, shipped_spaces
from tuners.study_spec import knob_of
from workloads.params import JaxWorkload, TorchWorkload, VllmWorkload
from workloads.traffic.spec import ClosedLoop, Traffic

BASES = {
    "vllm": RunSpec(
        name="base",
        workload=VllmWorkload(),
        traffic=Traffic(arrivals=ClosedLoop(num_users=2), duration_s=5.0),
    ),
    # 8 workers and 64 sequences each: every layout and micro batch of the spaces divides them.
    "torch": RunSpec(name="base", workload=TorchWorkload(num_workers=8, micro_batch_size=64)),
    "jax": RunSpec(name="base", workload=JaxWorkload(num_workers=8, micro_batch_size=64)),
}


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_shipped_space_varies_the_runs_it_names(name: str) -> None:
    """Every value of every knob is legal where its path leads, alone."""
    made = read_space(name)
    assert made.name == name
    assert all(knob.about for knob in made.knobs)
    space = Space(knobs=tuple(knob_of(knob) for knob in made.knobs))
    assert space.branches()
    base = BASES[made.workloads[0]]
    for knob in space.knobs:
        for value in values_of(knob.domain):
            if knob.path == "workload.tensor_parallel_size" and made.workloads == ("torch",):
                continue  # the tiny preset has two key-value heads; the check is another's
            configured(base, {knob.path: value})


def test_every_shipped_knob_of_a_training_is_a_field_of_its_workload() -> None:
    for name, shape in (("torch", TorchWorkload), ("jax", JaxWorkload)):
        known = {f"workload.{field.name}" for field in fields(shape)}
        assert {knob.path for knob in read_space(name).knobs} <= known


def made(*knobs: KnobSpec) -> SpaceFile:
    return SpaceFile(name="mine", about="x", knobs=knobs)


SEQS = KnobSpec(path="workload.engine_args.max-num-seqs", values=(None, 4, 8))
CHUNKED = KnobSpec(path="workload.engine_args.enable-chunked-prefill", choices=(None, False))
THRESHOLD = KnobSpec(
    path="workload.engine_args.long-prefill-token-threshold",
    values=(None, 128),
    when={CHUNKED.path: (None,)},
)
GROUPED = KnobSpec(path="workload.env.GROUPED", choices=("a", "b"), when={CHUNKED.path: (False,)})


def test_a_knob_of_the_studys_own_replaces_or_joins() -> None:
    own = KnobSpec(path=SEQS.path, values=(1, 2))
    other = KnobSpec(path="workload.tensor_parallel_size", values=(1, 2))
    knobs = joined([made(SEQS, CHUNKED)], [own, other], [])
    assert [knob.path for knob in knobs] == [SEQS.path, CHUNKED.path, other.path]
    assert knobs[0].values == (1, 2)


def test_what_hangs_on_a_knob_that_was_taken_out_is_as_if_that_were_left_to_the_engine() -> None:
    knobs = joined([made(SEQS, CHUNKED, THRESHOLD, GROUPED)], [], ["enable-chunked-prefill"])
    assert [knob.path for knob in knobs] == [SEQS.path, THRESHOLD.path]
    assert not knobs[1].when


def test_the_first_of_two_spaces_says_what_a_knob_is() -> None:
    other = KnobSpec(path=SEQS.path, values=(1, 2))
    assert joined([made(SEQS), made(other)], [], []) == (SEQS,)


def test_a_name_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"without: .*max-num-seq; did you mean max-num-seqs"):
        joined([made(SEQS)], [], ["max-num-seq"])
    with pytest.raises(SpaceError, match=r"vllm-cpus; did you mean vllm-cpu\?"):
        read_space("vllm-cpus")
    with pytest.raises(SpaceError, match=r"none\.yaml"):
        read_space("none.yaml", tmp_path)


def test_a_space_may_be_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "name: own\nabout: mine\nknobs:\n"
        "  - {path: workload.engine_args.max-num-seqs, values: [1, 2]}\n"
    )
    assert read_space("own.yaml", tmp_path).knobs[0].values == (1, 2)

"""A space held against a version: vLLM's own snapshot is the golden; the rest is made here."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tuners.engine_options import (
    Option,
    Snapshot,
    held_against,
    kept_snapshot,
    snapshot_of,
)
from tuners.engine_probe import PROBE, installed_version, probed
from tuners.errors import SpaceError
from tuners.space_files import SHIPPED, KnobSpec, read_space

GOLDEN = SHIPPED / "vllm-0.32.0.json"

SEQS = KnobSpec(path="workload.engine_args.max-num-seqs", values=(None, 0, 4, 8))
GONE = KnobSpec(path="workload.engine_args.swap-space", values=(None, 1, 2))
HANGS = KnobSpec(
    path="workload.engine_args.dtype", choices=(None, "float32"), when={GONE.path: (None,)}
)
TPU = KnobSpec(path="workload.env.MIN_TOKEN_BUCKET", values=(None, 16, 32))
OWN = KnobSpec(path="workload.tensor_parallel_size", values=(1, 2))
MADE = Snapshot(
    engine="vllm",
    version="9.9",
    device="cpu",
    options={
        option.name: option
        for option in (
            Option(name="max-num-seqs", group="SchedulerConfig", kind="integer", low=1),
            Option(name="dtype", group="ModelConfig", kind="choice", choices=("auto", "half")),
            Option(name="brand-new", group="SchedulerConfig", kind="flag"),
            Option(name="api-key", group="Frontend"),
        )
    },
    env=frozenset({"VLLM_X"}),
)


def test_what_the_version_does_not_have_is_dropped_and_said() -> None:
    held = held_against([SEQS, GONE, HANGS, OWN], MADE)
    assert [knob.path for knob in held.knobs] == [SEQS.path, OWN.path]
    assert held.knobs[0].values == (None, 4, 8)
    assert held.dropped == (
        "max-num-seqs 0: vllm 9.9 takes >= 1 integer",
        "swap-space: vllm 9.9 has no option --swap-space",
        "dtype: it depends on swap-space, which was dropped",
    )


def test_a_knob_with_one_value_left_is_no_knob() -> None:
    held = held_against([replace(HANGS, when={})], MADE)
    assert held.knobs == ()
    assert "float32" in held.dropped[0]
    assert "auto, half" in held.dropped[0]


def test_what_nobody_reviewed_is_listed_less_what_cannot_be_tuned() -> None:
    names = {option.name for option in held_against([SEQS], MADE).unreviewed}
    assert names == {"dtype", "brand-new"}


def test_a_build_for_another_device_does_not_tell_its_variables() -> None:
    assert held_against([TPU], MADE, "tpu").knobs == (TPU,)
    assert held_against([TPU], MADE, "cpu").knobs == ()


@pytest.mark.parametrize(
    ("option", "fine", "wrong"),
    [
        (Option(name="x", kind="flag"), (True, None), (1, "yes")),
        (Option(name="x", kind="number", above=0.0, high=1.0), (0.5, 1), (0.0, 1.1, True)),
        (Option(name="x", kind="choice", choices=("a",)), ("a", None), ("b",)),
        (Option(name="x", kind="text"), ("a", 1, None), ()),
    ],
)
def test_what_an_option_takes(
    option: Option, fine: tuple[object, ...], wrong: tuple[object, ...]
) -> None:
    assert all(option.allows(value) for value in fine)  # type: ignore[arg-type]
    assert not any(option.allows(value) for value in wrong)  # type: ignore[arg-type]


def test_the_reviewed_knobs_are_those_of_the_release_they_were_read_in() -> None:
    snapshot = snapshot_of(GOLDEN.read_text())
    assert (snapshot.version, snapshot.device) == ("0.32.0", "cpu")
    for name, device in (("vllm-cpu", "cpu"), ("vllm-gpu", "cuda"), ("vllm-tpu", "tpu")):
        held = held_against(read_space(name).knobs, snapshot, device)
        assert held.dropped == ()
        assert "max-num-active-seqs" in {option.name for option in held.unreviewed}
    # By hand from vllm/config/cache.py at 0.32.0: Field(default=0.92, gt=0, le=1).
    memory = snapshot.options["gpu-memory-utilization"]
    assert (memory.kind, memory.default, memory.above, memory.high) == ("number", 0.92, 0, 1)


def test_a_snapshot_made_here_comes_before_the_shipped(tmp_path: Path) -> None:
    assert kept_snapshot("vllm", "0.31.0", tmp_path) is None
    shipped = kept_snapshot("vllm", "0.32.0", tmp_path)
    assert shipped is not None
    (tmp_path / "vllm-0.32.0.json").write_text(
        GOLDEN.read_text().replace('"device": "cpu"', '"device": "cuda"')
    )
    mine = kept_snapshot("vllm", "0.32.0", tmp_path)
    assert mine is not None
    assert mine.device == "cuda"


@pytest.mark.parametrize("text", ["", "[]", '{"engine": "vllm"}', '{"options": [{"nam": 1}]}'])
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(SpaceError, match="no snapshot"):
        snapshot_of(text)


STANDS_IN = {
    "vllm/__init__.py": "print('engines talk while they are imported')\n",
    "vllm/version.py": "__version__ = '0.1.2+cpu'\n",
    "vllm/envs.py": "environment_variables = {'VLLM_X': None}\n",
    "vllm/utils.py": "from argparse import ArgumentParser as FlexibleArgumentParser\n",
    "vllm/config.py": """
from dataclasses import dataclass
class Rule:
    ge = 1
class Default:
    metadata = (Rule(),)
@dataclass
class SchedulerConfig:
    max_num_seqs: object = Default()
""",
    "vllm/engine/__init__.py": "",
    "vllm/engine/arg_utils.py": """
import argparse
class AsyncEngineArgs:
    @staticmethod
    def add_cli_args(parser):
        def optional_type(convert):
            return lambda text: None if text == 'None' else convert(text)
        group = parser.add_argument_group('SchedulerConfig')
        group.add_argument('--max-num-seqs', type=optional_type(int), default=None)
        group.add_argument('--chunked', action=argparse.BooleanOptionalAction, default=True)
        group.add_argument('--policy', choices=['fcfs', 'priority'], default='fcfs')
        return parser
""",
}


def test_an_engine_is_asked_by_its_own_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in laid out as an old release is: no launchers, the parser's class in vllm.utils."""
    for name, text in STANDS_IN.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    found = probed(sys.executable, tmp_path / "kept")
    assert found.version == "0.1.2+cpu"
    assert found.options["max-num-seqs"] == Option(
        name="max-num-seqs", group="SchedulerConfig", kind="integer", low=1
    )
    assert found.options["chunked"].kind == "flag"
    assert found.options["chunked"].default is True
    assert found.options["policy"].choices == ("fcfs", "priority")
    assert found.env == {"VLLM_X"}
    assert kept_snapshot("vllm", "0.1.2", tmp_path / "kept") == found


def test_an_interpreter_without_the_engine_says_so(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    assert installed_version(str(bare)) == ""
    with pytest.raises(SpaceError, match="name an interpreter that has vLLM"):
        probed(str(bare), tmp_path)
    with pytest.raises(SpaceError, match="does not run"):
        installed_version(str(tmp_path / "nobody"))


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_the_installed_engine_says_what_the_shipped_snapshot_says(tmp_path: Path) -> None:
    """The one real import of vLLM here: about ten seconds of CPU."""
    assert PROBE.is_file()
    if installed_version() != "0.32.0":
        pytest.skip("another vLLM than the snapshot's is installed, or none")
    probed("", tmp_path)
    assert json.loads((tmp_path / GOLDEN.name).read_text()) == json.loads(GOLDEN.read_text())

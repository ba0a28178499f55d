"""What a trace of XLA's operations says of communication, against spans drawn by hand."""

from __future__ import annotations

import pytest

from workloads.exposed import Span
from workloads.xla_trace import Op, clipped, exposed_per_step, opcodes

# Lines as XLA's CPU, GPU and TPU compilers write them.
PROGRAM = """
HloModule jit_step, is_scheduled=true

%region_0 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %add.1 = f32[] add(%a, %b)
}

ENTRY %main {
  %psum.6 = f32[262144]{0} all-reduce(%get-tuple-element.25), channel_id=1, to_apply=%region_0
  %all-to-all = (f32[4]{0}, f32[4]{0}) all-to-all(%slice, %slice.1), channel_id=1
  %ag.1 = (bf16[1,8]{1,0:T(8,128)(2,1)}, bf16[4,8]{1,0:T(8,128)}) all-gather-start(%p)
  %all-gather-done = bf16[4,8]{1,0:T(8,128)(2,1)} all-gather-done(%ag.1)
  %while.9 = (s32[], /*index=5*/f32[262144]{0}) while(%tuple.7), condition=%c, body=%b
  wrapped_add = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %copy.8 = f32[262144]{0} copy(%psum.6)
}
"""
KINDS = opcodes(PROGRAM)


def test_names_are_not_what_operations_are() -> None:
    assert KINDS == {
        "a": "parameter",
        "add.1": "add",
        "psum.6": "all-reduce",
        "all-to-all": "all-to-all",
        "ag.1": "all-gather-start",
        "all-gather-done": "all-gather-done",
        "while.9": "while",
        "wrapped_add": "fusion",
        "copy.8": "copy",
    }


def op(name: str, start_s: float, end_s: float, device: str = "0") -> Op:
    return Op(device, name, Span(start_s, end_s))


def test_what_overlaps_with_computing_is_not_exposed() -> None:
    """Of the steps [0, 10] and [20, 30]: a collective over 4 s, of which 1 s beside a fusion; then
    one that overlaps with nothing but the loop it is in, and one between the steps."""
    ops = [
        op("wrapped_add", 0, 5),
        op("psum.6", 4, 8),
        op("copy.8", 8, 10),
        op("psum.6", 12, 18),
        op("while.9", 20, 30),
        op("wrapped_add", 20, 24),
        op("ag.1", 24, 24.5),
        op("all-gather-done", 27, 29),
        op("copy.8", 24.5, 27),
        op("copy.8", 29, 31),
    ]
    steps = [Span(0, 10), Span(20, 30)]
    assert exposed_per_step(ops, steps, KINDS) == pytest.approx((3.0 + 2.5) / 2)


def test_the_mean_is_over_devices() -> None:
    ops = [op("psum.6", 0, 4, d) for d in "01"] + [op("copy.8", 4, 10, "0")]
    ops += [op("copy.8", 1, 10, "1")]
    assert exposed_per_step(ops, [Span(0, 10)], KINDS) == pytest.approx((4.0 + 1.0) / 2)


@pytest.mark.parametrize(
    ("ops", "steps", "says"),
    [
        ([op("psum.6", 0, 4)], [], "the trace has no step"),
        ([], [Span(0, 10)], "the trace has no operation of the step's program"),
        ([op("while.9", 0, 10)], [Span(0, 10)], "the trace has no operation"),
        ([op("psum.6", 0, 4)], [Span(0, 10)], "the trace tells of 40% of the steps' time on 0"),
        ([op("copy.8", 0, 9)], [Span(0, 10)], "the trace has no collective on 0, and the model is"),
    ],
)
def test_a_trace_that_does_not_tell_gives_no_number(
    ops: list[Op], steps: list[Span], says: str
) -> None:
    found = exposed_per_step(ops, steps, KINDS)
    assert isinstance(found, str)
    assert says in found


def test_spans_are_cut_at_the_steps() -> None:
    steps = [Span(0, 10), Span(20, 30)]
    assert clipped([Span(-1, 2), Span(8, 22), Span(11, 12)], steps) == [
        Span(0, 2),
        Span(8, 10),
        Span(20, 22),
    ]

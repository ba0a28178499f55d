"""The transformer against its formulas, written out again here from their papers."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from workloads.torch_model import (  # noqa: E402 - after the check that torch is there
    RMSNorm,
    Transformer,
    apply_rope,
    rope_table,
)
from workloads.torch_shape import PRESETS, ModelShape  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

SMALL = ModelShape(vocab_size=50, dim=24, num_layers=2, num_heads=6, num_kv_heads=3, hidden_dim=40)


def make(shape: ModelShape = SMALL, positions: int = 16) -> Transformer:
    torch.manual_seed(1)
    return Transformer(shape, positions)


@pytest.mark.parametrize("shape", [SMALL, PRESETS["tiny"]])
def test_the_closed_form_counts_the_parameters(shape: ModelShape) -> None:
    counted = sum(parameter.numel() for parameter in make(shape).parameters())
    assert counted == shape.num_parameters


def test_rms_norm() -> None:
    norm = RMSNorm(3, eps=0.5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    rms = math.sqrt((1 + 16 + 4) / 3 + 0.5)
    out = norm(torch.tensor([[1.0, -4.0, 2.0]]))[0].tolist()
    assert out == pytest.approx([1 / rms, -8 / rms, 6 / rms], rel=1e-6)


def test_rms_norm_keeps_the_type_and_does_not_overflow() -> None:
    out = RMSNorm(4, eps=1e-5)(torch.full((1, 4), 300.0, dtype=torch.float16))
    assert out.dtype == torch.float16  # whose largest number is smaller than 300 squared
    assert out[0].tolist() == pytest.approx([1.0] * 4, rel=1e-3)


def test_rope_turns_pairs_as_complex_numbers() -> None:
    head_dim, length, theta = 8, 5, 10_000.0
    x = torch.randn(2, 3, length, head_dim, generator=torch.Generator().manual_seed(0))
    cos, sin = rope_table(head_dim, length, theta)
    out = apply_rope(x, cos, sin)
    for position in range(length):
        for pair in range(head_dim // 2):
            turn = complex(
                math.cos(position * theta ** (-2 * pair / head_dim)),
                math.sin(position * theta ** (-2 * pair / head_dim)),
            )
            before = complex(x[1, 2, position, pair], x[1, 2, position, pair + 4])
            after = complex(out[1, 2, position, pair], out[1, 2, position, pair + 4])
            assert after == pytest.approx(before * turn, abs=1e-5)


def test_rope_makes_scores_depend_on_distance_alone() -> None:
    cos, sin = rope_table(8, 12, 10_000.0)
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(8, generator=generator), torch.randn(8, generator=generator)
    at = [apply_rope(v.expand(1, 1, 12, 8), cos, sin)[0, 0] for v in (query, key)]
    scores = at[0] @ at[1].T
    assert scores[5, 3].item() == pytest.approx(scores[11, 9].item(), abs=1e-4)
    assert scores[5, 3].item() != pytest.approx(scores[5, 1].item(), abs=1e-2)


def test_the_future_does_not_change_the_past() -> None:
    model = make().eval()
    tokens = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(2))
    changed = tokens.clone()
    changed[:, 9:] = (changed[:, 9:] + 7) % 50
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.allclose(before[:, :9], after[:, :9], atol=1e-6)
    assert not torch.allclose(before[:, 9:], after[:, 9:], atol=1e-3)


def test_attention_against_softmax_written_out() -> None:
    """One block's attention, head by head, with the mask made by hand."""
    attention = make().blocks[0].attention
    length, head_dim = 7, SMALL.head_dim
    x = torch.randn(1, length, 24, generator=torch.Generator().manual_seed(3))
    cos, sin = rope_table(head_dim, length, 10_000.0)
    with torch.no_grad():
        query, key, value = (
            project(x)[0].view(length, -1, head_dim)
            for project in (attention.query, attention.key, attention.value)
        )
        heads = []
        for head in range(SMALL.num_heads):
            group = head // (SMALL.num_heads // SMALL.num_kv_heads)
            q = apply_rope(query[:, head][None, None], cos, sin)[0, 0]
            k = apply_rope(key[:, group][None, None], cos, sin)[0, 0]
            scores = q @ k.T / math.sqrt(head_dim)
            scores = scores + torch.full((length, length), -math.inf).triu(1)
            heads.append(scores.softmax(dim=-1) @ value[:, group])
        expected = torch.cat(heads, dim=-1) @ attention.out.weight.T
        assert torch.allclose(attention(x, cos, sin)[0], expected, atol=1e-5)


def test_weights_come_from_the_seed() -> None:
    one, same = make(), make()
    torch.manual_seed(2)
    other = Transformer(SMALL, 16)
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


def test_a_new_model_knows_nothing() -> None:
    model = make(PRESETS["tiny"], 32)
    tokens = torch.randint(0, 1024, (2, 32), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        probabilities = model(tokens).log_softmax(dim=-1)
    assert -probabilities.mean().item() == pytest.approx(math.log(1024), rel=0.05)

"""The network against transformers' Granite, which has the same four multipliers."""

import copy
from pathlib import Path

import pytest
import torch

from windtunnel.config import DenseSpec, Recipe
from windtunnel.model import build, initialise, native
from windtunnel.mup import Role

BENCHMARKS = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"
RECIPE = Recipe(lr=0.01, base_width=32, batch_tokens=64, warmup_steps=1)
SPECS = {
    "mha": {"kv_heads": 4},
    "gqa": {"kv_heads": 2},
    "untied": {"kv_heads": 4, "tied": False},
    "qk_norm": {"kv_heads": 4, "qk_norm": True},
}


def spec(**changes):
    return DenseSpec(width=64, depth=2, head_dim=16, vocab_size=97, context=24, **changes)


def model(model_spec, recipe=RECIPE, init_seed=0):
    decoder = build(model_spec, recipe)
    initialise(decoder, recipe, init_seed=init_seed)
    return decoder


@pytest.mark.parametrize("name", ["mha", "gqa", "untied"])
@pytest.mark.medium
def test_logits_and_loss_equal_granite(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from granite import granite_like

    decoder = model(spec(**SPECS[name]))
    for block in decoder.layers:  # gains off 1, or a forgotten one would not show
        torch.nn.init.uniform_(block.norm_attention, 0.5, 1.5)
        torch.nn.init.uniform_(block.norm_ffn, 0.5, 1.5)
    rows = torch.randint(0, 97, (3, 25), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = granite_like(decoder)(input_ids=rows[:, :-1]).logits
        torch.testing.assert_close(decoder.logits(rows[:, :-1]), theirs, rtol=1e-4, atol=1e-5)
        loss = torch.nn.functional.cross_entropy(theirs.flatten(0, 1), rows[:, 1:].flatten())
        torch.testing.assert_close(decoder(rows), loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_parameters_counted_are_parameters_accounted(name):
    own = spec(**SPECS[name])
    decoder = build(own, RECIPE)
    total = sum(parameter.numel() for parameter in decoder.parameters())
    assert total == own.params + own.params_embedding


@pytest.mark.parametrize("name", SPECS)
def test_every_parameter_has_one_role_and_its_init(name):
    decoder = model(spec(**SPECS[name]))
    roles = decoder.roles()
    assert set(roles) == {n for n, _ in decoder.named_parameters()}
    for parameter_name, parameter in decoder.named_parameters():
        match roles[parameter_name]:
            case Role.GAIN:
                assert bool((parameter == 1).all())
            case Role.HIDDEN:  # width ratio 2
                assert float(parameter.detach().std()) == pytest.approx(0.1 / 2**0.5, rel=0.05)
            case _:
                assert float(parameter.detach().std()) == pytest.approx(0.1, rel=0.05)


def test_init_depends_on_seed_and_name_alone():
    small, tall = model(spec(kv_heads=4)), model(spec(kv_heads=4).replace(depth=3))
    assert torch.equal(small.layers[1].qkv, tall.layers[1].qkv)
    assert not torch.equal(small.layers[0].qkv, small.layers[1].qkv)
    assert not torch.equal(small.embedding, model(spec(kv_heads=4), init_seed=1).embedding)


def by_hand(decoder, rows):
    """Nats of the counted predictions over all, one at a time in float64, and its gradient."""
    decoder = copy.deepcopy(decoder).double()
    read = torch.where(rows < 0, ~rows, rows)
    logits = decoder.logits(read[:, :-1])
    loss = torch.zeros((), dtype=torch.float64)
    for row in range(rows.shape[0]):
        for place in range(1, rows.shape[1]):
            if rows[row, place] >= 0:
                loss = loss - logits[row, place - 1].log_softmax(-1)[rows[row, place]]
    loss = loss / (rows.shape[0] * (rows.shape[1] - 1))
    loss.backward()
    return float(loss.detach()), {n: p.grad.float() for n, p in decoder.named_parameters()}


@pytest.mark.parametrize(
    "compiled",
    [
        False,
        pytest.param(
            True,
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(native.compiler() is None, reason="no C++ compiler"),
            ],
        ),
    ],
)
def test_marked_tokens_are_read_and_their_predictions_add_nothing(compiled):
    # A block takes the compiler seconds, and the second is like the first.
    decoder = model(spec(kv_heads=4).replace(depth=1 if compiled else 2))
    rows = torch.randint(0, 97, (3, 25), generator=torch.Generator().manual_seed(3))
    plain = rows.clone()
    rows[0, :9] = ~rows[0, :9]
    rows[1, 1:] = ~rows[1, 1:]  # nothing of it counts
    rows[2, 20] = ~rows[2, 20]
    loss, gradients = by_hand(decoder, rows)
    function = torch.compile(decoder, dynamic=False, fullgraph=True) if compiled else decoder
    with torch.no_grad():
        before = function(plain)
    found = function(rows, True)
    found.backward()
    assert float(found.detach()) == pytest.approx(loss, rel=1e-6)
    for name, parameter in decoder.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        assert torch.equal(function(plain), before)


def test_where_nothing_counts_loss_and_gradient_are_zero():
    decoder = model(spec(kv_heads=4))
    rows = ~torch.randint(0, 97, (2, 25), generator=torch.Generator().manual_seed(3))
    rows[:, 0] = ~rows[:, 0]
    loss = decoder(rows, True)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(bool((parameter.grad == 0).all()) for parameter in decoder.parameters())


def test_a_position_never_sees_a_later_token():
    decoder = model(spec(kv_heads=4))
    rows = torch.randint(0, 97, (1, 24), generator=torch.Generator().manual_seed(1))
    changed = rows.clone()
    changed[0, 12] = (changed[0, 12] + 1) % 97
    with torch.no_grad():
        before, after = decoder.logits(rows), decoder.logits(changed)
    assert torch.equal(before[0, :12], after[0, :12])
    assert not torch.allclose(before[0, 12:], after[0, 12:])


def test_qk_norm_makes_scores_free_of_the_query_scale():
    decoder = model(spec(**SPECS["qk_norm"]))
    rows = torch.randint(0, 97, (1, 24), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = decoder.logits(rows)
        for block in decoder.layers:
            block.qkv[: 2 * 64] *= 8  # queries and keys, not values
        torch.testing.assert_close(decoder.logits(rows), before, rtol=2e-3, atol=1e-3)

"""Mixtures of experts: against the dense model and torch, balance, counts, upcycling."""

import math
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from windtunnel.config import Branch, DenseSpec, ModelChange, Recipe, Trunk
from windtunnel.config.errors import first_refusal
from windtunnel.config.model import ModelFamily
from windtunnel.config.shape import upcycled
from windtunnel.config.study import DynamicsConfig, Resources
from windtunnel.family import MINICPM_MOE, Shape, facts_of, load_family
from windtunnel.model.experts import similarity
from windtunnel.model.routing import Routing
from windtunnel.mup import Role
from windtunnel.train import checkpoint
from windtunnel.train.dynamics import Dynamics
from windtunnel.train.execution import apply, decide
from windtunnel.train.loop import evaluate
from windtunnel.train.step import TrainStep
from windtunnel.train.upcycling import Upcycling

RECIPE = Recipe(lr=0.01, base_width=32, batch_tokens=256, warmup_steps=1)
MANY = {
    "normalised": {"experts": 8, "top_k": 2},
    "probabilities, losses": {
        "experts": 8, "top_k": 2, "normalise_gates": False, "balance_weight": 0.5, "z_loss": 0.01,
    },
    "bias, shared": {
        "experts": 4, "top_k": 2, "balance": "bias", "shared_experts": 1, "granularity": 2,
    },
}  # fmt: skip


def spec_of(mixture=None, size="64x2"):
    family = {} if mixture is None else {"family": MINICPM_MOE, "shape": mixture}
    model = ModelFamily.model_validate({"sizes": [size], "head_dim": 16, "context": 64} | family)
    return model.spec(model.sizes[0], vocab_size=64)


def trunk_of(spec):
    return Trunk(model=spec, recipe=RECIPE, stream="none", init_seed=0, data_seed=0)


def started(spec, *, kernels="torch", micro_batch_tokens=None):
    resources = Resources(
        device="cpu", kernels=kernels, compile="never", micro_batch_tokens=micro_batch_tokens
    )
    execution = decide(resources, spec, RECIPE, planned_tokens=0)
    apply(execution)
    step = TrainStep(spec, RECIPE, execution)
    step.state.start(trunk_of(spec))
    return step


def rows_of(update):
    return np.random.default_rng(update).integers(0, 64, size=(4, 65))


def trained(spec, updates=4, **how):
    """The step, and loss and gradient norm of every update."""
    step = started(spec, **how)
    found = [tuple(map(float, step.update(rows_of(n), 1.0))) for n in range(updates)]
    return step, found


@pytest.mark.parametrize("kernels", ["torch", "native"])
def test_one_expert_is_the_dense_model_bit_for_bit(kernels):
    dense, of_dense = trained(spec_of(), kernels=kernels)
    single, of_single = trained(spec_of({"experts": 1, "top_k": 1}), kernels=kernels)
    assert of_single == of_dense
    mine, theirs = single.state.tensors()[0], dense.state.tensors()[0]
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name].reshape_as(theirs[name]), theirs[name]) for name in mine)


@pytest.mark.parametrize("mixture", MANY.values(), ids=MANY)
def test_native_kernels_equal_torch(mixture):
    _, by_torch = trained(spec_of(mixture), updates=2)
    native, found = trained(spec_of(mixture), updates=2, kernels="native")
    assert np.allclose(found, by_torch, rtol=3e-4, atol=0)
    assert found[0][0] == pytest.approx(by_torch[0][0], rel=1e-6)
    assert native.execution.kernels.startswith("native")


@pytest.mark.parametrize("kernels", ["torch", "native"])
@pytest.mark.parametrize("mixture", MANY.values(), ids=MANY)
def test_a_cut_update_is_the_whole_one(mixture, kernels):
    """Balance is of the update: a loss by micro-batch would differ by far more."""
    whole, once = trained(spec_of(mixture), kernels=kernels, updates=2)
    cut, pieces = trained(spec_of(mixture), kernels=kernels, updates=2, micro_batch_tokens=64)
    assert np.allclose(pieces, once, rtol=1e-5)
    counted = [step.state.model.routed.routing.counts_LE for step in (whole, cut)]
    assert torch.equal(*counted)
    assert int(counted[0].sum()) == 2 * 256 * mixture["top_k"]


def test_the_balance_loss_is_that_of_the_switch_transformer():
    """The gradient of a router against autograd over the loss as it is printed (equation 4)."""
    weight, z = 0.5, 0.1
    mixture = {"experts": 4, "top_k": 2, "balance_weight": weight, "z_loss": z}
    block = started(spec_of(mixture)).state.model.routed.expert_blocks[0]
    torch.manual_seed(0)
    logits = torch.randn(32, 4, requires_grad=True)
    chosen = block._choose(logits.detach())
    probability = logits.softmax(dim=-1)
    share = torch.bincount(chosen.flatten(), minlength=4) / chosen.numel()
    own = weight * 4 * (share * probability.mean(dim=0)).sum()
    (own + z * logits.logsumexp(dim=-1).square().mean()).backward()
    assert torch.allclose(block._balance_gradient(logits.detach(), chosen), logits.grad, atol=1e-7)
    assert float(weight * 4 * (torch.full((4,), 0.25) * 0.25).sum()) == pytest.approx(weight)


def test_balance_brings_the_load_together():
    def share(balance):
        mixture = {"experts": 8, "top_k": 2, "router_std": 1.0, **balance}
        step, _ = trained(spec_of(mixture), updates=100, kernels="native")
        return fmean(each.largest_share for each in step.state.model.routed.routing.of_layers())

    without = share({"balance": "none"})
    assert share({"balance": "bias", "bias_rate": 0.02}) < without - 0.05
    assert share({"balance_weight": 1.0}) < without - 0.05


def test_equal_logits_choose_the_first_experts():
    for kernels in ("torch", "native"):
        step = started(spec_of({"experts": 8, "top_k": 3}), kernels=kernels)
        with torch.no_grad():
            for block in step.state.model.routed.expert_blocks:
                block.router.zero_()
        step.update(rows_of(0), 0.0)
        counts = step.state.model.routed.routing.counts_LE
        assert counts.tolist() == [[256.0] * 3 + [0.0] * 5] * 2


def test_routing_of_an_update():
    routing = Routing(1, 4)
    routing.add(0, torch.tensor([8, 0, 0, 0]), torch.tensor(8 * math.log(4)), 8)
    (found,) = routing.of_layers()
    assert (found.largest_share, found.load_entropy) == (1.0, 0.0)
    assert found.router_entropy == pytest.approx(1.0)
    assert similarity(torch.ones(3, 2, 2)) == pytest.approx(1.0)
    assert math.isnan(similarity(torch.ones(1, 2, 2)))


def test_the_parameters_of_minicpm_moe():
    """13.6 billion, of which a token passes through 4 billion (arXiv 2404.06395, section 7.3)."""
    given = {
        "head_dim": 64, "ffn_ratio": 2.5, "heads_per_kv": 1, "kv_heads": None, "tied": True,
        "qk_norm": False, "rope_base": 10000.0,
    }  # fmt: skip
    fields = load_family(MINICPM_MOE).fields(given, width=2304, depth=40)
    shape = Shape(width=2304, depth=40, vocab_size=122753, context=4096, fields=fields)
    facts = facts_of(MINICPM_MOE, shape)
    attention, expert, router = 4 * 2304**2, 3 * 2304 * 5760, 8 * 2304
    assert facts.params == 40 * (attention + 8 * expert + router + 2 * 2304) + 2304
    assert facts.params_active == 40 * (attention + 2 * expert + router + 2 * 2304) + 2304
    assert round(facts.params / 1e9, 1) == 13.6
    assert round(facts.params_active / 1e9) == 4
    assert Role.ROUTER in facts.roles


@pytest.mark.parametrize(
    ("mixture", "code", "values"),
    [
        ({"experts": 2, "top_k": 3}, "out-of-range", {"most": 2}),
        ({"experts": 4, "top_k": 1}, "contradicting-keys", {"keys": ["top_k", "normalise_gates"]}),
        ({"experts": 4, "granularity": 3}, "not-a-multiple", {"granularity": 3}),
        ({"balance": "none", "balance_weight": 0.1}, "contradicting-keys",
         {"keys": ["balance_weight", "balance"]}),
        ({"expert": 4}, "unknown-shape-field", {"field": "expert"}),
        ({"experts": 0}, "invalid-value", {"field": "experts"}),
    ],
)  # fmt: skip
def test_mixtures_that_are_refused(mixture, code, values):
    with pytest.raises(ValueError, match=r".") as invalid:
        spec_of(mixture)
    refused = first_refusal(invalid.value)
    assert refused.code == code
    assert values.items() <= refused.values.items()


def test_experts_stay_while_the_width_grows():
    shape = {"experts": {"32x2": 4, "64x2": 8}}
    model = {"family": MINICPM_MOE, "sizes": ["32x2", "64x2"], "head_dim": 16, "context": 64}
    with pytest.raises(ValueError, match="experts") as invalid:
        ModelFamily.model_validate(model | {"shape": shape})
    refused = first_refusal(invalid.value)
    assert (refused.code, refused.values["values"]) == ("varies-with-size", [4, 8])


@pytest.mark.parametrize("kernels", ["torch", "native"])
def test_dynamics_of_a_bias_that_no_gradient_moves(kernels):
    spec = spec_of(MANY["bias, shared"])
    _, expected = trained(spec, kernels=kernels)
    step = started(spec, kernels=kernels)
    dynamics = Dynamics(step.state, DynamicsConfig(every=1, window=2), first_step=0)
    found = [tuple(map(float, step.update(rows_of(n), 1.0, (dynamics,)))) for n in range(4)]
    assert found == expected
    rows = dynamics.rows(up_to=4)
    assert [row.grad_norm for row in rows] == pytest.approx([norm for _, norm in found], rel=1e-4)
    assert set(rows[-1].max_change) > {"blocks.0.gate_up", "blocks.0.shared_down"}


# --- upcycling


def branch_of(spec, change):
    return Branch(parent=trunk_of(spec), fork_step=3, steps=2, changes=(change,))


def forked(tmp_path, kernels="native", **how):
    """A dense model after three updates, and the mixture that is made of it."""
    dense, _ = trained(spec_of(), updates=3, kernels=kernels)
    checkpoint.save(dense.state, tmp_path / "fork", with_optimizer=how.pop("saved", True))
    mixture = {"experts": 4, "top_k": 2, "shared_experts": 0, "granularity": 1}
    model = upcycled(dense.state.model.spec, mixture | how.pop("mixture", {}))
    change = ModelChange(model=model, **how)
    step = started(model, kernels=kernels)
    upcycling = Upcycling(branch_of(dense.state.model.spec, change), change)
    checkpoint.load(
        step.state, tmp_path / "fork", lambda *found: upcycling(step.state.model, *found)
    )
    return dense, step


@pytest.mark.parametrize("kernels", ["torch", "native"])
def test_an_upcycled_model_is_the_dense_one_at_the_fork(tmp_path, kernels):
    dense, experts = forked(tmp_path, kernels)
    rows = rows_of(99)
    assert evaluate(experts, rows) == pytest.approx(evaluate(dense, rows), abs=1e-6)
    assert experts.state.step == 3
    assert experts.state.model.routed.similarity() == pytest.approx([1.0, 1.0])


def test_probabilities_as_gates_are_another_model_at_the_fork(tmp_path):
    dense, experts = forked(tmp_path, mixture={"normalise_gates": False})
    assert abs(evaluate(experts, rows_of(99)) - evaluate(dense, rows_of(99))) > 1e-4


def test_moments_are_copied_or_zeroed(tmp_path):
    dense, experts = forked(tmp_path)
    _, theirs = dense.state.tensors()
    _, mine = experts.state.tensors()
    for expert in range(4):
        name = "blocks.0.down/exp_avg"
        assert torch.equal(mine[name][expert], theirs[name])
    assert float(mine["blocks.0.router/exp_avg_sq"].abs().sum()) == 0.0
    assert float(mine["blocks.0.router/step"]) == 3.0
    _, zeroed = forked(tmp_path / "zeroed", moments="zeroed")
    _, none = zeroed.state.tensors()
    assert float(none["blocks.0.down/exp_avg_sq"].abs().sum()) == 0.0
    assert torch.equal(none["blocks.0.qkv/exp_avg"], theirs["blocks.0.qkv/exp_avg"])


def test_a_share_of_each_copy_starts_anew(tmp_path):
    dense, experts = forked(tmp_path, reset=0.5)
    theirs, _ = dense.state.tensors()
    mine, moments = experts.state.tensors()
    same = [mine["blocks.0.down"][expert] == theirs["blocks.0.down"] for expert in range(4)]
    units = [set(torch.nonzero(~each.all(dim=0)).flatten().tolist()) for each in same]
    assert [len(each) for each in units] == [80] * 4  # half of 160
    assert len({frozenset(each) for each in units}) == 4  # each expert other ones
    gate, up = (mine["blocks.0.gate_up"][0] != theirs["blocks.0.gate_up"]).any(dim=1).chunk(2)
    assert set(torch.nonzero(gate).flatten().tolist()) == units[0]
    assert torch.equal(gate, up)
    fresh = moments["blocks.0.down/exp_avg"][0][:, sorted(units[0])]
    assert float(fresh.abs().sum()) == 0.0


def test_a_fork_without_moments_cannot_copy_them(tmp_path):
    with pytest.raises(checkpoint.Damaged) as refused:
        forked(tmp_path, saved=False)
    assert refused.value.values["reason"] == "no-moments"
    forked(tmp_path / "zeroed", saved=False, moments="zeroed")


def test_the_change_is_part_of_the_identity():
    dense = spec_of()
    assert isinstance(dense, DenseSpec)
    mixture = {"experts": 4, "top_k": 2, "shared_experts": 0, "granularity": 1}
    changes = [
        ModelChange(model=upcycled(dense, mixture)),
        ModelChange(model=upcycled(dense, mixture), moments="zeroed"),
        ModelChange(model=upcycled(dense, mixture), reset=0.5),
        ModelChange(model=upcycled(dense, mixture | {"router_std": 0.2})),
    ]
    assert len({branch_of(dense, each).id for each in changes}) == 4
    branch = branch_of(dense, changes[0])
    assert Branch.model_validate_json(branch.model_dump_json()).id == branch.id
    assert (branch.model.experts, branch.model.params_total > branch.model.params) == (4, True)


def test_defaults_are_minicpms():
    found = SimpleNamespace(**load_family(MINICPM_MOE).Fields().model_dump())
    assert (found.experts, found.top_k, found.router_std) == (8, 2, 0.1)
    assert found.balance == "switch"

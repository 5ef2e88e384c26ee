import math

import pytest
from pydantic import ValidationError

from windtunnel.config import DenseSpec, Recipe
from windtunnel.errors import Refused
from windtunnel.model import build, initialise
from windtunnel.mup import Role, kv_init_std, role_scale, site_multipliers

# MiniCPM (arXiv 2404.06395), Table 7 at Table 8's widths, base 256, lr 0.01, init std 0.1:
# width, depth -> m, hidden lr, hidden std, residual factor.
TABLE = {
    "9M": (320, 8, 1.25, 0.00800, 0.0894, 0.4950),
    "30M": (512, 12, 2.0, 0.00500, 0.0707, 0.4041),
    "70M": (640, 14, 2.5, 0.00400, 0.0632, 0.3742),
    "0.1B": (768, 16, 3.0, 0.00333, 0.0577, 0.3500),
    "0.17B": (896, 18, 3.5, 0.00286, 0.0535, 0.3300),
    "0.2B": (1024, 20, 4.0, 0.00250, 0.0500, 0.3130),
    "0.5B": (1344, 24, 5.25, 0.00190, 0.0436, 0.2858),
    "1.2B": (1536, 52, 6.0, 0.00167, 0.0408, 0.1941),
    "2.4B": (2304, 40, 9.0, 0.00111, 0.0333, 0.2214),
}


def scale(role, ratio, *, depth_ratio=1.0, parametrization="mup", rule="constant"):
    return role_scale(
        role,
        width_ratio=ratio,
        depth_ratio=depth_ratio,
        parametrization=parametrization,
        weight_decay_rule=rule,
    )


@pytest.mark.parametrize("name", TABLE)
def test_minicpm_table(name):
    width, depth, m, lr, std, residual = TABLE[name]
    ratio = width / 256
    assert ratio == m
    hidden = scale(Role.HIDDEN, ratio)
    assert 0.01 * hidden.lr == pytest.approx(lr, abs=5e-6)
    assert 0.1 * hidden.init_std == pytest.approx(std, abs=5e-5)
    assert hidden.weight_decay == 1.0
    for role in (Role.EMBEDDING, Role.READOUT):
        assert (scale(role, ratio).lr, scale(role, ratio).init_std) == (1.0, 1.0)
    sites = site_multipliers(
        width_ratio=ratio,
        depth=depth,
        depth_ratio=1.0,
        head_dim=64,
        scale_emb=12,
        scale_depth=1.4,
        parametrization="mup",
    )
    assert sites.residual == pytest.approx(residual, abs=5e-5)
    assert (sites.embed, sites.logits, sites.attention) == (12, 1 / m, 0.125)


@pytest.mark.parametrize("role", Role)
def test_at_base_width_mup_is_standard(role):
    assert scale(role, 1.0, rule="scaled") == scale(role, 1.0, parametrization="standard")


def test_scaled_decay_times_rate_is_free_of_width():
    products = [
        scale(Role.HIDDEN, m, rule="scaled").lr * scale(Role.HIDDEN, m, rule="scaled").weight_decay
        for m in (1.0, 3.5, 8.0)
    ]
    assert products == pytest.approx([1.0] * 3)


def test_gains_are_never_decayed():
    for parametrization in ("mup", "standard"):
        assert scale(Role.GAIN, 4.0, parametrization=parametrization).weight_decay == 0.0


SHAPES = [(32, 2), (32, 8), (64, 4), (256, 2), (256, 12), (48, 3), (2304, 40)]


def recipe_of(parametrization, **changes):
    return Recipe(
        lr=0.01,
        base_width=32,
        batch_tokens=64,
        warmup_steps=1,
        parametrization=parametrization,
        **changes,
    )


def model_of(width, depth):
    return DenseSpec(width=width, depth=depth, head_dim=16, kv_heads=1, vocab_size=256, context=64)


@pytest.mark.parametrize(("width", "depth"), SHAPES)
@pytest.mark.parametrize("base_depth", [1, 2, 12])
def test_completep_is_the_authors_code(width, depth, base_depth):
    """EleutherAI/nanoGPT-mup, branch completep: model.py, Block and configure_optimizers."""
    alpha, m_n, m_l = 1.0, width / 32, depth / base_depth
    recipe, model = recipe_of("completep", base_depth=base_depth), model_of(width, depth)
    width_lr, depth_lr = 1 / m_n, m_l ** (alpha - 1)
    expected = {  # rate, weight decay
        Role.EMBEDDING: (1.0, 1.0),
        Role.READOUT: (1.0, 1.0),
        Role.GAIN: (depth_lr, 0.0),
        Role.HIDDEN: (width_lr * depth_lr, 1 / width_lr),
    }
    for role, (lr, weight_decay) in expected.items():
        found = recipe.scale(role, model)
        assert (found.lr, found.weight_decay) == pytest.approx((lr, weight_decay))
        assert found.eps == pytest.approx(1 / m_n * m_l**-alpha)
    assert recipe.scale(Role.HIDDEN, model).init_std == pytest.approx(1 / math.sqrt(m_n))
    sites = recipe.multipliers(model)
    at_base = recipe.multipliers(model_of(width, base_depth)).residual
    assert sites.residual == pytest.approx(at_base / m_l**alpha)
    assert sites.logits == pytest.approx(1 / m_n)


@pytest.mark.parametrize(("width", "depth"), SHAPES)
def test_at_base_depth_completep_is_mup(width, depth):
    completep, mup = recipe_of("completep", base_depth=depth), recipe_of("mup")
    model = model_of(width, depth)
    assert completep.multipliers(model) == mup.multipliers(model)
    assert [completep.scale(role, model) for role in Role] == [
        mup.scale(role, model) for role in Role
    ]


@pytest.mark.parametrize("parametrization", ["mup", "standard"])
def test_a_base_depth_is_read_by_completep_alone(parametrization):
    with_base, without = recipe_of(parametrization, base_depth=2), recipe_of(parametrization)
    model = model_of(64, 8)
    assert with_base.multipliers(model) == without.multipliers(model)
    assert [with_base.scale(role, model) for role in Role] == [
        without.scale(role, model) for role in Role
    ]


def test_completep_without_a_base_depth_is_refused():
    with pytest.raises(ValidationError) as refused:
        recipe_of("completep")
    cause = refused.value.errors()[0]["ctx"]["error"]
    assert isinstance(cause, Refused)
    assert (cause.code, cause.place) == ("missing-base-depth", ("parametrization",))


@pytest.mark.parametrize("heads_per_kv", [1, 2, 4, 16])
@pytest.mark.parametrize("m", [1, 2, 8])
def test_spectral_keys_and_values_start_at_the_spectral_condition(heads_per_kv, m):
    """Yang, Simon and Bernstein (arXiv 2310.17813): min(1, sqrt(out / in)) / sqrt(in)."""
    fan_in, fan_out = 64 * m, 64 * m / heads_per_kv
    expected = min(1, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in)
    by_fan_in = scale(Role.HIDDEN, m).init_std / math.sqrt(64)
    assert by_fan_in * kv_init_std(heads_per_kv, kv_rule="spectral") == pytest.approx(expected)
    assert kv_init_std(heads_per_kv, kv_rule="hidden") == 1.0


def test_keys_and_values_that_stay_start_as_readouts_of_mup():
    """At fixed kv heads the init std falls as 1 / m (arXiv 2203.03466, Table 3: output weights)."""
    stds = [
        scale(Role.HIDDEN, m).init_std * kv_init_std(2 * m, kv_rule="spectral") for m in (1, 2, 8)
    ]
    assert [stds[0] / std for std in stds] == pytest.approx([1, 2, 8])


@pytest.mark.parametrize(("kv_heads", "factor"), [(4, 1.0), (1, 0.5)])
def test_only_the_rows_of_keys_and_values_start_smaller(kv_heads, factor):
    spec = model_of(64, 2).replace(kv_heads=kv_heads)
    recipe = recipe_of("mup")
    weights = {}
    for rule in ("hidden", "spectral"):
        model = build(spec, recipe.replace(kv_rule=rule))
        initialise(model, recipe.replace(kv_rule=rule), init_seed=3)
        weights[rule] = dict(model.named_parameters())
    for name, hidden in weights["hidden"].items():
        expected = hidden.detach().clone()
        if name.endswith("qkv"):
            expected[spec.width :] *= factor
        assert (weights["spectral"][name] == expected).all()

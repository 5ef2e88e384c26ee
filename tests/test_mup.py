import pytest

from windtunnel.mup import Role, role_scale, site_multipliers

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


def scale(role, ratio, *, parametrization="mup", rule="constant"):
    return role_scale(
        role, width_ratio=ratio, parametrization=parametrization, weight_decay_rule=rule
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

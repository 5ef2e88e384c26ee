"""The transfer table: the identity where a recipe was tuned, known values elsewhere."""

import pytest

from windtunnel.transfer import TABLE, Place, Rule, factors

BASE = Place(batch_tokens=8192, tokens=1e6, depth=4, params=1e5)
LARGE = Place(batch_tokens=32768, tokens=16e6, depth=16, params=4e5)
RECIPE = {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-8, "beta2": 0.95}
RULES = [(cell, name) for cell, rules in TABLE.items() for name in rules]


@pytest.mark.parametrize(("cell", "name"), RULES)
def test_every_rule_is_the_identity_at_the_tuned_place(cell, name):
    assert factors({cell: TABLE[cell][name]}, BASE, BASE).transferred(**RECIPE) == RECIPE


@pytest.mark.parametrize(
    ("cell", "name", "expected"),
    [
        (("lr", "batch"), "sqrt", {"lr": 0.02}),
        (("lr", "batch"), "linear", {"lr": 0.04}),
        (("lr", "length"), "delphi", {"lr": 0.01 * 16**-0.3}),
        (("lr", "length"), "completed_p", {"lr": 0.0025}),
        (("lr", "depth"), "inverse_sqrt", {"lr": 0.005}),
        (("weight_decay", "batch"), "timescale", {"weight_decay": 0.4}),
        (("weight_decay", "length"), "timescale", {"weight_decay": 0.1 / 16}),
        # Tokens per parameter grow from 10 to 40.
        (("weight_decay", "length"), "power_lines", {"weight_decay": 0.1 / 16 * 4**0.527}),
        (("beta2", "batch"), "half_life", {"beta2": 0.95**4}),
        (("eps", "batch"), "inverse_sqrt", {"eps": 5e-9}),
    ],
)
def test_known_values(cell, name, expected):
    transferred = factors({cell: TABLE[cell][name]}, LARGE, BASE).transferred(**RECIPE)
    assert transferred == pytest.approx(RECIPE | expected, rel=1e-11)


def test_the_timescale_is_kept_whatever_the_rate_does():
    rules = {
        ("lr", "batch"): TABLE["lr", "batch"]["sqrt"],
        ("lr", "length"): Rule(power=-0.27),
        ("weight_decay", "batch"): TABLE["weight_decay", "batch"]["timescale"],
        ("weight_decay", "length"): TABLE["weight_decay", "length"]["timescale"],
    }
    transferred = factors(rules, LARGE, BASE).transferred(**RECIPE)

    def share(place, lr, weight_decay):
        return place.batch_tokens / (lr * weight_decay) / place.tokens

    kept = share(LARGE, transferred["lr"], transferred["weight_decay"])
    assert kept == pytest.approx(share(BASE, 0.01, 0.1), rel=1e-9)
    assert transferred["lr"] == pytest.approx(0.01 * 2 * 16**-0.27, rel=1e-11)

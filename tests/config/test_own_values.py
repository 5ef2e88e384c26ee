"""Recipes of one experiment, transfer rules, and where their faults are reported."""

import pytest

from windtunnel.config import load_study
from windtunnel.config.own_values import own_values
from windtunnel.config.settled import settled, waits_for
from windtunnel.errors import ConfigError

CHAIN = """\
  - kind: search
    name: tune
    space: {recipe.lr: {low: 4e-3, high: 3e-2, log: true}}
    size: 16x1
    horizon: 120 steps
    trials: 4
  - kind: grid
    name: lengths
    recipe: {from: tune}
    axes: {size: [16x1], recipe.lr: {times: [0.5, 1, 2]}, recipe.batch_tokens: {times: [1, 2]}}
    horizons: [120 steps]
  - kind: grid
    name: longer
    recipe: {from: tune, weight_decay: 0.2}
    schedule: {hold: {power: -0.3, from: 10N}}
    axes: {size: [16x1], recipe.lr: {times: [0.5, 1, 2]}}
    horizons: [120 steps, 240 steps]
  - kind: forecast
    name: ahead
    recipe: {from: tune}
    sizes: [16x1, 16x2, 32x1]
    horizons: [110 steps, 140 steps, 180 steps]
    target: {size: 32x2, horizons: [180 steps]}
resources:"""


@pytest.fixture
def chain(study_file):
    def write(*replacements, transfer="lr: {length: measured}"):
        text = study_file().read_text()
        scaling = text[text.index("  - kind: scaling") : text.index("resources:")]
        text = text.replace(scaling + "resources:", CHAIN)
        text = text.replace("experiments:", f"transfer: {{{transfer}}}\nexperiments:")
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = study_file()
        path.write_text(text)
        return path

    return write


def test_a_study_is_settled_by_winners_and_powers(chain):
    study = load_study(chain())
    assert waits_for(study) == {
        "lengths": ("tune",), "longer": ("tune",), "ahead": ("longer", "tune"),
    }  # fmt: skip
    winners = {name: {"recipe.lr": 0.012} for name in ("lengths", "longer", "ahead")}
    known = settled(study, winners, {})
    assert waits_for(known) == {"ahead": ("longer",)}
    lengths, longer = known.experiments[1:3]
    assert lengths.listed("recipe.lr") == (0.006, 0.012, 0.024)
    assert lengths.listed("recipe.batch_tokens") == (128, 256)
    assert longer.recipe["weight_decay"] == 0.2
    exact = {name: {"recipe.lr": 0.006549108123456789} for name in winners}
    # Once the winner is the winner, so that the grid shares runs with the ladder.
    assert settled(study, exact, {}).experiments[1].listed("recipe.lr")[1] == 0.006549108123456789
    known = settled(study, winners, {("lr", "length"): -0.25})
    assert waits_for(known) == {}
    by_batch = load_study(chain(transfer="lr: {batch: measured}"))
    assert waits_for(settled(by_batch, winners, {})) == {}  # its batch is the tuned one
    moved = load_study(
        chain(
            ("from: tune}\n    sizes", "from: tune, batch_tokens: 256}\n    sizes"),
            transfer="lr: {batch: measured}",
        )
    )
    assert waits_for(settled(moved, winners, {})) == {"ahead": ("lengths",)}
    assert known.transfer.rules()["lr", "length"].power == -0.25
    assert known.transfer.lr.length.experiment == "longer"


def test_a_settled_study_is_written_and_read_as_itself(chain, tmp_path):
    from windtunnel.config.load import resolved_text

    study = load_study(chain())
    winners = {name: {"recipe.lr": 0.012} for name in ("lengths", "longer", "ahead")}
    known = settled(study, winners, {("lr", "length"): -0.25})
    (tmp_path / "again.yaml").write_text(resolved_text(known))
    assert load_study(tmp_path / "again.yaml") == known


@pytest.mark.parametrize(
    ("replacements", "transfer", "code", "key"),
    [
        ([("from: tune, weight", "from: tun, weight")], "", "unknown-source-experiment",
         "experiments[2].recipe.from"),
        ([("trials: 4", "trials: 4\n    top: 0")], "", "no-winner", "experiments[1].recipe.from"),
        ([("weight_decay: 0.2", "weight_decay: -1")], "", "out-of-range",
         "experiments[2].recipe.weight_decay"),
        ([("weight_decay: 0.2", "weight_deca: 1")], "", "unknown-key",
         "experiments[2].recipe.weight_deca"),
        ([("weight_decay: 0.2", "batch_tokens: 100")], "", "not-a-multiple",
         "experiments[2].recipe.batch_tokens"),
        ([("hold: {power: -0.3", "hold: {power: 0.3")], "", "out-of-range",
         "experiments[2].schedule.hold"),
        ([("{times: [0.5, 1, 2]}, recipe.batch", "{times: [0.5, 0.5]}, recipe.batch")], "",
         "duplicate-value", "experiments[1].axes.recipe.lr.times"),
        ([("recipe.batch_tokens: {times: [1, 2]}", "recipe.batch_tokens: {times: [1, 1.1]}")], "",
         "not-a-multiple", "experiments[1].axes.recipe.batch_tokens"),
        ([("target: {size: 32x2", "target: {size: 64x9")], "", "unknown-size", "experiments[3]"),
        ([("target: {size: 32x2", "target: {size: 32x1")], "", "duplicate-value",
         "experiments[3].target.size"),
        ([], "lr: {length: fast}", "unknown-value", "transfer.lr.length"),
        ([], "lr: {depth: measured}", "rule-not-measured", "transfer.lr.depth"),
        ([], "lr: {length: {measured: lengths}}", "rule-not-measured", "transfer.lr.length"),
        ([], "beta2: {batch: 0.5}", "rule-not-measured", "transfer.beta2.batch"),
        ([], "lr: {batch: 9}", "out-of-range", "transfer.lr.batch"),
        ([("    recipe: {from: tune}\n    sizes", "    sizes")], "lr: {batch: sqrt}", "missing-key",
         "transfer"),
    ],
)  # fmt: skip
def test_faults_are_reported_at_their_key(chain, replacements, transfer, code, key):
    with pytest.raises(ConfigError) as caught:
        load_study(chain(*replacements, transfer=transfer))
    assert (caught.value.code, caught.value.values["key"]) == (code, key)


def test_a_winner_brings_the_stable_phase_of_its_search(chain):
    hold = {"power": -0.3, "from": "10N"}
    study = load_study(chain())
    values = {"recipe.lr": 0.012, "schedule.hold": hold}
    known = settled(study, {"lengths": values}, {})
    _, schedule = own_values(known, known.experiments[1])
    assert schedule.hold.power == -0.3

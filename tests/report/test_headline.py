"""The first screen, where its values come from, and the order of warnings."""

import dataclasses

import planted
import pytest

from windtunnel.laws import Diagnostic, Interval
from windtunnel.report import collect
from windtunnel.report.formatting import count, loss, significant
from windtunnel.report.headline import FAR, budgets, headlines
from windtunnel.report.inputs import StandingRecipe
from windtunnel.report.verdicts import of_curves, verdict
from windtunnel.report.warnings import NOTE, SPOILS, WEAKENS, placed_warnings, warning_text
from windtunnel.runs.study import open_study
from windtunnel.transfer import Place, Rule


def with_domain(inputs, **spans):
    """The inputs with a law that was fitted to other params, tokens or ratios."""
    (law,) = inputs.laws
    fit = dataclasses.replace(law.fit, domain=law.fit.domain | spans)
    return dataclasses.replace(inputs, laws=(dataclasses.replace(law, fit=fit),))


def test_only_a_number_far_beyond_the_runs_is_extrapolated(inputs):
    (law,) = inputs.laws
    best = law.fit.optimum(law.fit.domain["flops"][1])
    for factor, flagged in ((0.99 * FAR, False), (1.01 * FAR, True)):
        largest = best.tokens.value / factor
        (answer,) = headlines(with_domain(inputs, tokens=(largest / 10, largest)))
        beyond = {fact.name: fact.beyond for fact in answer.facts}
        assert (beyond["Data"] is not None) == flagged
        assert beyond["Loss"] is None
        if flagged:
            assert beyond["Data"] == pytest.approx(factor)


def test_the_run_that_the_study_is_for_comes_first(tmp_path):
    made = planted.make_study(tmp_path)
    planted.fill(made)
    made.file.write_text(f"{made.file.read_text()}\ntarget: {{shape: 128x5, tokens: 2e7}}\n")
    study = open_study(made.file)
    found = collect(study)
    (planned,) = found.planned_runs
    first, second = headlines(found)
    facts = {fact.name: fact for fact in (*first.facts, *first.hyperparameters)}
    assert facts["Loss"].text == loss(planned.loss.value)
    assert facts["Batch"].text == f"{planned.handoff.batch.batch_tokens:,}"
    assert len(first.notes) == 1 + len(planned.narrowing)
    assert second.budget.endswith("the largest measured budget")
    made.file.write_text(made.file.read_text().replace("tokens: 2e7", "flops: 1"))
    (refused,) = collect(open_study(made.file)).planned_runs
    assert refused.problem.code == "too-few-updates"


def test_an_answer_has_the_optimum_and_the_recipe(inputs, full):
    (answer,) = headlines(inputs)
    (law,) = inputs.laws
    best = law.fit.optimum(dict(budgets(law.fit))["largest measured"])
    assert {fact.name: fact.text for fact in answer.facts} == {
        "Model": f"{count(best.params.value)} params",
        "Data": f"{count(best.tokens.value)} tokens",
        "Tokens per param": significant(best.ratio.value),
        "Loss": loss(best.loss.value),
    }
    recipe = full.config.recipe
    assert {fact.name: fact.text for fact in answer.hyperparameters} == {
        "Learning rate": f"{recipe.lr:g}",
        "Batch": f"{recipe.batch_tokens:,}",
        "Warm-up": str(recipe.warmup_steps),
        "Weight decay": f"{recipe.weight_decay:g}",
        "Decay": full.config.schedule.shape,
    }


def test_a_rule_carries_the_recipe_to_the_answer(full):
    recipe = full.config.recipe.replace(lr=0.01, weight_decay=0.1)
    standing = StandingRecipe(
        experiment="law",
        recipe=recipe,
        schedule=full.config.schedule,
        fields=(),
        place=Place(batch_tokens=recipe.batch_tokens, tokens=1e6, depth=2, params=1e5),
        rules={("lr", "length"): Rule(power=-0.5)},
        depths={100_000: 2, 1_000_000: 4},
    )
    assert standing.at(3e5, 4e6)["lr"] == pytest.approx(0.005)
    assert dataclasses.replace(standing, place=None).at(3e5, 4e6)["lr"] == 0.01


SEARCHED = """\
  - kind: search
    name: tune
    space: {recipe.lr: {low: 1e-3, high: 1e-1, log: true}}
    trials: 4
    horizon: 20N
  - kind: grid
    name: rates
    recipe: {weight_decay: 0.2}
    axes: {recipe.lr: [5e-3, 1e-2, 2e-2]}
    horizons: ["200 steps", "400 steps"]
    seeds: 2
"""


@pytest.mark.medium
def test_every_field_of_the_recipe_says_how_it_was_found(tmp_path):
    study = planted.make_study(tmp_path, sizes="32x2", experiments=SEARCHED)
    planted.fill(study, skip=lambda p: p.labels[0].experiment != "rates")
    (standing,) = collect(study).recipes
    fields = {field.axis: field for field in standing.fields}
    recipe, schedule = study.config.recipe, study.config.schedule
    wanted = {f"recipe.{name}" for name in type(recipe).model_fields}
    assert fields.keys() == wanted | {f"schedule.{name}" for name in type(schedule).model_fields}
    assert [axis for axis, field in fields.items() if field.tuned] == ["recipe.lr"]
    origin, tested = fields["recipe.lr"].found
    assert origin == "study file, not searched"
    assert tested.startswith("grid rates")
    assert fields["recipe.clip"].found == ("default",)


@pytest.mark.usefixtures("undrawn")
def test_warnings_stand_by_weight(inputs):
    (law,) = inputs.laws
    codes = ("few-resamples", "misfit", "ratio-wide", "not-converged")
    fit = dataclasses.replace(
        law.fit, warnings=tuple(Diagnostic(code, f"{code} was planted") for code in codes)
    )
    planted_law = dataclasses.replace(law, fit=fit)
    found = placed_warnings(dataclasses.replace(inputs, findings=()), [planted_law], ())
    of_fit = [(each.code, each.weight) for each in found if each.origins == "fit"]
    assert of_fit == [
        ("not-converged", SPOILS),
        ("ratio-wide", SPOILS),
        ("misfit", WEAKENS),
        ("few-resamples", NOTE),
    ]


@pytest.mark.parametrize(("value", "weight"), [(1.2e7, NOTE), (4.8e7, SPOILS)])
def test_a_number_a_little_beyond_the_runs_is_a_note(inputs, value, weight):
    edge = 1e7
    warning = Diagnostic("extrapolates", "far", quantity="tokens", value=value, edge=edge)
    far = dataclasses.replace(inputs, findings=(), searches=(), warnings=(warning,))
    assert [each.weight for each in placed_warnings(far, (), ())] == [weight]
    assert f"a factor of {value / edge:.2f} above the largest" in warning_text(warning)


def test_verdicts_follow_from_the_numbers(inputs):
    lost = sum(state.state == "diverged" for state in inputs.states)
    assert of_curves(inputs).endswith(f"{lost} diverged.")
    assert all(isinstance(verdict(finding), str) for finding in inputs.findings)


@pytest.mark.parametrize(
    ("lost", "drift", "transfers", "moves"),
    [(0.001, (0.97, 0.9, 1.05), True, False), (0.001, (0.9, 0.85, 0.95), True, True),
     (0.1, (0.5, 0.4, 0.6), False, True)],
)  # fmt: skip
def test_a_rate_transfers_where_it_gives_up_less_than_the_noise(lost, drift, transfers, moves):
    from types import SimpleNamespace

    from windtunnel.findings.lr_transfer import TransferFinding

    curve = SimpleNamespace(lost=Interval(lost, 0.0, lost), known=True)
    variant = SimpleNamespace(name="", transferred=(curve,), drift=Interval(*drift))
    noise = SimpleNamespace(sigma=Interval(0.014, 0.01, 0.02))
    finding = TransferFinding(experiment="w", along="width", variants=(variant,), noise=noise)
    words = verdict(finding)
    assert ("transfers within noise" in words) == transfers
    if transfers:
        assert ("though it falls" in words) == moves
    assert verdict(dataclasses.replace(finding, noise=None)) == ""

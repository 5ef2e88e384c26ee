"""What `windtunnel plan` says of branch experiments."""

import json
import re

import pytest
from domains import write_domains

from windtunnel.cli.plan import print_plan
from windtunnel.runs.study import open_study

STUDY = """\
study: turns
data: {{sources: [letters.txt, {{path: digits.txt, weight: 0}}]}}
model: {{sizes: [32x2, 64x2], head_dim: 16, context: 64}}
recipe: {{lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 20}}
tracking: {{enabled: false}}
experiments:
  - kind: branch
    name: turn
    sizes: [32x2]
    forks: [200 steps, 400 steps]
    seeds: 2
{experiment}
  - kind: scaling
    sizes: [32x2]
    horizons: [500 steps]
    seeds: 1
    hold_out: none
"""


def planned(folder, capsys, experiment, *, as_json=False):
    write_domains(folder)
    file = folder / "study.yaml"
    file.write_text(STUDY.format(experiment=experiment))
    print_plan(open_study(file), calibrates=False, as_json=as_json)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        (
            "    variants: {plain: {}, on: [{}, {warmup: 9 steps, stable: 20 steps}]}",
            "2 variants x 2 seeds: plain, on\n",
        ),
        ("    variants: {plain: {}}", "1 variant x 2 seeds: plain\n"),
        (
            "    design: {sources: [letters, digits], mixtures_drawn: 30}",
            "33 variants x 2 seeds: mix00 to mix32, its design\n",
        ),
        (
            "    variants: {plain: {}}\n"
            "    design: {sources: [letters, digits], decay: 90 steps, mixtures_drawn: 3}",
            "7 variants x 2 seeds: plain, mix0 to mix5, its design\n",
        ),
        (
            "    variants:\n"
            + "\n".join(f"      v{k}: {{decay: {k}0 steps}}" for k in range(3, 18)),
            "15 variants x 2 seeds: v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, 3 more\n",
        ),
    ],
)
def test_variants_are_named_on_a_line(tmp_path, capsys, experiment, said):
    output = planned(tmp_path, capsys, experiment)
    assert f"branch turn  forks 200 steps, 400 steps of 32x2, {said}" in output


def test_segments_tell_their_variant_and_experiments(tmp_path, capsys):
    variants = "    variants: {plain: {}, on: [{}, {warmup: 9 steps, stable: 20 steps}]}"
    segments = json.loads(planned(tmp_path, capsys, variants, as_json=True))["segments"]
    assert len(segments) == 2 + 2 * 2 * 2 + 1
    trunks = [each for each in segments if each["kind"] == "trunk"]
    assert {each["seed"]: each["experiments"] for each in trunks} == {
        0: ["turn", "scaling"],
        1: ["turn"],
    }
    assert {each["variant"] for each in trunks} == {None}
    branches = [each for each in segments if each["kind"] == "branch"]
    assert sorted((each["variant"] or "", *each["experiments"]) for each in branches) == [
        ("", "scaling"),
        *[("on", "turn")] * 4,
        *[("plain", "turn")] * 4,
    ]


def test_a_shape_that_a_branch_has_changed_is_told_from_the_studys(tmp_path, capsys):
    variants = "{plain: {}, long: {context: 128, batch_tokens: 512, rope_base: 4e4}}"
    output = planned(tmp_path, capsys, f"    variants: {variants}")
    assert "32x2, context 128, rope_base 40000 " in output
    assert output.count(", context ") == 1


@pytest.mark.parametrize(
    ("variants", "rows"),
    [
        (
            "{two: [{stable: 50 steps, batch_tokens: 512}, {decay: 50 steps}]}",
            [("32x2", "256", "400 (trunk)"), ("32x2", "512", "250 300 450 500")],
        ),
        (
            "{long: {context: 128, decay: 40 steps}}",
            [("32x2", "256", "400 (trunk)"), ("32x2, context 128", "256", "240 440")],
        ),
    ],
)
def test_a_trunk_that_every_branch_leaves_for_another_shape_has_a_line(
    tmp_path, capsys, variants, rows
):
    write_domains(tmp_path)
    text = STUDY.format(experiment=f"    variants: {variants}")
    file = tmp_path / "study.yaml"
    file.write_text(text[: text.index("  - kind: scaling")])
    study = open_study(file)
    print_plan(study, calibrates=False, as_json=False)
    output = capsys.readouterr().out
    for size, batch, horizons in rows:
        assert re.search(rf"{size} +\S+ +\S+ +{batch} +2 +{re.escape(horizons)} ", output), output
    print_plan(study, calibrates=False, as_json=True)
    kinds = [each["kind"] for each in json.loads(capsys.readouterr().out)["segments"]]
    assert kinds.count("trunk") == 2


def test_what_is_left_holds_the_trials_to_come(tmp_path, capsys):
    write_domains(tmp_path)
    file = tmp_path / "study.yaml"
    text = STUDY.format(experiment="    variants: {plain: {}}")
    search = (
        "  - {kind: search, space: {recipe.lr: {low: 1e-3, high: 1e-1, log: true}}, trials: 4, "
        "horizon: 200 steps}\n"
    )
    file.write_text(text[: text.index("  - kind: branch")] + search)
    print_plan(open_study(file), calibrates=False, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["segments"] == []  # none is suggested yet
    assert found["left"]["segments"] == found["cost"]["trunks"] + found["cost"]["branches"] > 0
    assert found["left"]["flops"] == found["cost"]["flops"]

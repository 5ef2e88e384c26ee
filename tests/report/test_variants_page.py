"""The page of a study of branches: what it says of variants, and what it does not say of laws."""

import re
from dataclasses import replace

import planted
import pytest
from unrun import made_run

from windtunnel.findings.branches import BranchFinding
from windtunnel.report import collect, formatting, render
from windtunnel.report.runs_table import mixture
from windtunnel.report.verdicts import of_curves
from windtunnel.runs.budget.cost import cost_of
from windtunnel.runs.table import variant_name

BRANCHES = """\
  - kind: branch
    name: ways
    forks: [200 steps]
    seeds: 2
    variants:
      plain: {decay: 40 steps}
      half: {decay: 40 steps, final_factor: 0.5}
      twice: [{decay: 40 steps}, {decay: 40 steps, warmup: 9 steps}]
      back: [{decay: 40 steps, final_factor: 0.2}, {stable: 20 steps}]
  - kind: branch
    name: held
    forks: [200 steps]
    seeds: 2
    variants:
      on: {stable: 40 steps}
      off: {decay: 40 steps}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = planted.make_study(tmp_path_factory.mktemp("ways"), sizes="32x2", experiments=BRANCHES)
    planted.fill(study)
    return study


@pytest.fixture(scope="module")
def inputs(study):
    return collect(study)


@pytest.fixture(scope="module")
def page(inputs, read):
    return read(render(inputs))


@pytest.mark.usefixtures("undrawn")
def test_runs_are_told_apart_by_variant(inputs, page, full, read):
    assert page.faults == []
    runs = page.section("runs")
    assert " Variant " in runs
    names = {run.segment: variant_name(run.variants) for run in inputs.runs}
    assert set(names.values()) >= {"half", "back/1", "ways:plain+held:off"}
    for segment, name in names.items():
        cells = re.search(rf'<tr [^>]*data-segment="{segment}".*?</tr>', page.html, re.DOTALL)
        assert f'<td class="names">{name or "–"}</td>' in cells[0]
    assert " Variant " not in read(render(collect(full))).section("runs")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.medium
def test_what_a_branch_reads_is_in_its_row(inputs, page, read):
    shares = {"docs": 1 / 3, "code": 2 / 3, "web": 0.0}
    assert mixture(made_run(mixture=shares)) == "code 66.7%, docs 33.3%"
    assert mixture(made_run()) == "–"
    assert " Mixture " not in page.section("runs")
    mixed = [
        replace(run, mixture=shares) if variant_name(run.variants) == "half" else run
        for run in inputs.runs
    ]
    runs = read(render(replace(inputs, runs=mixed))).section("runs")
    assert " Mixture " in runs
    assert runs.count("half code 66.7%, docs 33.3%") == 2


def test_differences_are_laid_out_and_means_folded(inputs, page):
    text = page.section("findings")
    found = next(each for each in inputs.findings if isinstance(each, BranchFinding))
    (on,) = found.sets
    for variant in found.others:
        gap = found.gap(variant, on)
        cell = f"{formatting.significant(gap.value)} {formatting.interval_span(gap)}"
        assert f"{variant.name} {cell}".replace("\N{NO-BREAK SPACE}", " ") in text
    assert "Quantity" not in text
    folded = re.findall(r"<details>.*?</details>", page.html, re.DOTALL)[0]
    for variant in found.variants:
        assert f"<th>{variant.name}</th>" in folded
        assert formatting.significant(found.mean(variant, on).value) in folded


def test_warnings_of_several_findings_stand_once(page):
    assert page.html.count("<code>two-seeds</code>") == 1
    assert "(Branch variants: ways; Branch variants: held; two-seeds" in page.text
    assert page.text.count("nds at the stable rate, undecayed: 'back'") == 1


def test_only_what_is_true_of_branches_is_said(page, inputs):
    assert "feed the law" not in page.text
    assert of_curves(inputs) in page.text
    assert f"1 model size, {formatting.count(next(iter(inputs.sizes)))} params" in page.text
    assert "Loss of 1 variant minus that of" in page.html  # in the figure's label
    assert "the decays that leave it" not in page.text


@pytest.mark.usefixtures("undrawn")
def test_the_saving_is_that_of_the_plan(study, page, read, tmp_path):
    saving = cost_of(study.expected).saving
    assert saving > 2
    assert f"{saving:.2f} times cheaper than training each of its points" in page.text
    half = planted.make_study(tmp_path, sizes="32x2", experiments=BRANCHES)
    planted.fill(half, skip=lambda planned: planned.segment.kind == "branch")
    assert f"{saving:.2f} times cheaper" in read(render(collect(half))).text


def test_a_table_that_goes_on_shows_it(page):
    style = re.search(r"\n\.table \{.*?\}", page.html, re.DOTALL)[0]
    assert re.findall(r"(local|scroll)[,; ]", style) == ["local", "local", "scroll", "scroll"]

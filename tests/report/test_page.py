import dataclasses
import json
import re
import shutil

import planted
import pytest
from handed import planted_handoff

from windtunnel.laws import Diagnostic, fit
from windtunnel.report import collect, formatting, render
from windtunnel.report.headline import budgets, field_text
from windtunnel.report.warnings import SEGMENT, warning_text
from windtunnel.runs.forecast import as_table, law_runs, read_forecasts
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study
from windtunnel.runs.study_files import FILE, keep_handoff


def test_the_answer_is_the_optimum_of_the_largest_budget(full, page):
    fitted = fit(as_table(law_runs(gather(full.store, full.plan))))
    flops = fitted.domain["flops"][1]
    best = fitted.optimum(flops)
    (card,) = re.findall(r"<article.*?</article>", page.html, re.DOTALL)
    assert f"{formatting.scientific(flops)} FLOPs" in card
    assert f"<dd>{formatting.count(best.params.value)} params" in card
    assert f"<dd>{formatting.count(best.tokens.value)} tokens" in card
    assert f"<dd>{best.loss.value:.4f}<" in card
    assert f"{best.loss.low:.4f} to {best.loss.high:.4f}" in card
    main = page.html[: page.html.index('<details id="appendix">')]
    ratio = f"<dd>{formatting.significant(best.ratio.value)}"
    assert main.count(ratio) == card.count(ratio) == 1
    recipe = full.config.recipe
    for value in (recipe.lr, recipe.weight_decay):
        assert f"<dd>{field_text(value)}<" in card
    assert f"<dd>{recipe.warmup_steps}<small>updates" in card


@pytest.mark.usefixtures("undrawn")
def test_the_other_budgets_are_in_the_appendix(inputs, page):
    fitted = inputs.laws[0].fit
    text = page.section("optima")
    for label, flops in budgets(fitted):
        best = fitted.optimum(flops)
        ends = formatting.interval_span(best.params, formatting.count)
        assert f"{label} {formatting.scientific(flops)}".replace("\u00a0", " ") in text
        assert f"{formatting.count(best.params.value)} {ends}" in text
        assert formatting.significant(best.ratio_exact.value) in text


@pytest.mark.usefixtures("undrawn")
def test_every_coefficient_and_warning_is_shown(inputs, read):
    fit = inputs.laws[0].fit.warned(Diagnostic("made-up", "C = 1.2e+07 is beyond the runs"))
    law = dataclasses.replace(inputs.laws[0], fit=fit)
    page = read(render(dataclasses.replace(inputs, laws=(law,))))
    text = page.section("fit")
    for name, value in fit.coefficients.items():
        ends = formatting.span(*fit.intervals[name])
        assert f"{formatting.significant(value)} {ends}" in text.replace("\u00a0", " "), name
    for form in fit.details["forms"]:
        assert f"{form['form']} {100 * form['weight']:.0f}%" in text
    for warning in (*fit.warnings, *inputs.warnings):
        assert f"<code>{warning.code}</code>" in page.html
        shown = SEGMENT.split(formatting.sentence(warning_text(warning)))  # trunks have names
        assert all(part.replace("\u00a0", " ").strip() in page.text for part in shown)


def test_forecast_stands_beside_the_truth(full, inputs, page):
    newest = read_forecasts(full.folder)[-1]
    text = page.section("forecast")
    assert "before any held-out trunk had finished" in text
    for point in newest["points"]:
        run = next(run for run in inputs.runs if run.segment == point["segment"])
        assert f"{point['loss']:.4f} {point['low']:.4f} to {point['high']:.4f}" in text
        assert f"{run.loss:.4f}" in text
        for name, value in point["naive"].items():
            assert name in text
            assert f"{value:.4f}" in text


@pytest.mark.usefixtures("undrawn")
def test_a_forecast_after_the_fact_is_called_one(inputs):
    late = [{**inputs.forecasts[-1], "held_out_trained_before": True}]
    text = render(dataclasses.replace(inputs, forecasts=late))
    assert "this is a check on known results, not a forecast" in text
    assert "before any held-out trunk had finished" not in text


@pytest.mark.usefixtures("undrawn")
def test_exports_are_listed(full, inputs, read):
    handoff = json.loads(planted_handoff().to_json())
    handoff["forecast"] = {"mean": {"value": 2.5, "low": 2.25, "high": None}}
    keep_handoff(full.folder, handoff, target="megatron")
    handoffs = collect(open_study(full.file)).handoffs
    (full.folder / FILE).unlink()
    assert handoffs == ({"target": "megatron", "handoff": handoff},)
    handoff["forecast"]["mean"]["high"] = 2.75
    page = read(render(dataclasses.replace(inputs, handoffs=handoffs * 2)))
    assert not page.faults
    row = page.section("exports")
    assert "96×3" in row
    assert "megatron" in row
    assert f"{handoff['roles']['hidden']['lr']:.5f}" in row
    assert "exports" not in read(render(inputs)).html


def test_trouble_is_listed(full, inputs, page):
    lost = next(state for state in inputs.states if state.state == "diverged")
    row = re.search(rf'<tr title="{lost.segment}"><th class="bad">diverged.*?</tr>', page.html)
    assert f"{lost.reached} of {lost.end}" in row[0]
    assert f"{len(inputs.states) - 1} of {len(inputs.states)} segments finished, 1 diverged" in (
        page.text.replace(" ,", ",")
    )
    assert "checkpoint damaged & removed" in page.text


def test_every_run_has_a_row_and_no_run_is_named_by_a_hash(inputs, page):
    rows = dict(re.findall(r'<tr [^>]*data-segment="(\w+)">(.*?)</tr>', page.html))
    assert rows.keys() == {run.segment for run in inputs.runs}
    for run in inputs.runs:
        assert f"{run.loss:.4f}" if run.loss is not None else "–" in rows[run.segment]
    assert not [state.segment for state in inputs.states if state.segment in page.text]


def test_the_page_loads_nothing_and_is_well_formed(page):
    assert page.faults == []
    for tag, name, value in page.attributes:
        if name in ("src", "srcset", "action", "data", "poster", "xlink:href"):
            pytest.fail(f"<{tag} {name}={value}>")
        if name == "href":
            assert value.startswith(("#", "data:,")), (tag, value)
    assert not re.search(r"@import|url\((?!#)|https?://|<script[ \t]|<image", page.html)
    assert page.html.count("<script") == 1


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {v[1:] for _, n, v in page.attributes if n == "href" and v.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", page.html))
    assert len(wanted) > 20
    assert wanted <= set(ids)


def test_figures_keep_their_text_and_wear_css_colours(page):
    drawings = re.findall(r"<svg.*?</svg>", page.html, re.DOTALL)
    assert len(drawings) == 2 * 10  # wide and narrow
    assert sum("<title>" in drawing for drawing in drawings) >= 2 * 4  # tooltips of runs
    for drawing in drawings:
        assert "<text" in drawing
        assert not re.search(r"#[0-9a-f]{6}\b", re.sub(r'(?:href="|url\()#[^")]+', "", drawing))


def test_hostile_words_are_escaped(inputs):
    nasty = '<script>alert("x")</script>'
    hostile = dataclasses.replace(
        inputs,
        study=nasty,
        file=nasty,
        study_text=nasty,
        sizes=dict.fromkeys(inputs.sizes, "<i>9"),
        notes=tuple(dataclasses.replace(note, text=nasty) for note in inputs.notes),
        states=tuple(dataclasses.replace(state, why=nasty) for state in inputs.states),
        warnings=(Diagnostic("made-up", nasty),),
    )
    text = render(hostile)
    assert text.count("<script") == 1  # the page's own
    assert "<i>" not in text
    assert text.count("&lt;script&gt;") >= 6


def test_an_empty_sweep_renders(tmp_path, read):
    page = read(render(collect(planted.make_study(tmp_path))))
    assert page.faults == []
    assert "0 of 60 segments finished" in page.text
    assert "No answer yet. No finished, decayed segment yet" in page.text
    assert "No forecast has been written yet" in page.text
    assert "Nothing has been spent yet" in page.text


def test_a_study_without_data_renders(tmp_path, read):
    study = planted.make_study(tmp_path)
    (study.folder / "data.json").unlink()
    shutil.rmtree(study.store.data)
    page = read(render(collect(open_study(study.file))))
    assert page.faults == []
    assert "The data has not been prepared yet" in page.text


@pytest.mark.medium
def test_a_half_done_sweep_renders(tmp_path, read):
    study = planted.make_study(tmp_path)
    planted.fill(study, skip=lambda p: p.segment.model.width > 48)
    page = read(render(collect(study)))
    assert page.faults == []
    assert "needs at least 3 distinct values of params" in page.text
    assert "24 of 60 segments finished, 36 not started" in page.text.replace(" ,", ",")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.medium
def test_mixed_execution_is_warned_of(tmp_path):
    study = planted.make_study(tmp_path)
    planted.fill(study, skip=lambda p: p.held_out)
    other = planted.EXECUTION | {"threads": 2}
    study.store.segment(study.plan.trunks[0].id).set_execution(other)
    text = render(collect(study))
    assert text.count("<code>mixed-execution</code>") == 1
    assert "computed in 2 ways (threads: 1, 2)" in text

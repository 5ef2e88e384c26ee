from dataclasses import replace

import numpy as np
import pytest
from unrun import planted_records

from windtunnel.findings import findings_of
from windtunnel.findings.adaptation import AdaptationFinding, adaptations
from windtunnel.report.figures.branches import adaptation_drawings
from windtunnel.runs.table import variant_name

HEAD = """
data: {sources: [builtin:docs, {path: "builtin:code", weight: 0}]}
model: {sizes: [32x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: linear, decay_fraction: 0.2}
"""
STEPS = (100, 200, 400, 800, 1600, 3200)
LENGTHS = "".join(
    f"      code-{steps}: {{mixture: {{docs: 1, code: 1}}, decay: {steps} steps}}\n"
    for steps in STEPS
)


def study(variants=LENGTHS, *, seeds=4):
    return f"""
  - kind: branch
    name: length
    forks: [800 steps]
    seeds: {seeds}
    variants:
{variants}      other: {{mixture: {{code: 1}}, decay: 900 steps}}
"""


def planted(*, own=1e-3, docs=0.01, draw=0, blown=()):
    """Code: 1.5 + 0.5 x^-0.4 in units of the shortest; docs rises by `docs` per doubling."""
    rng, shared = np.random.default_rng(draw), {}

    def loss(run):
        if (variant_name(run.variants), run.init_seed) in blown:
            return None
        x = (run.tokens - run.fork_tokens) / (STEPS[0] * 512)
        trunk = shared.setdefault(run.init_seed, 0.01 * rng.standard_normal())
        noise = own * rng.standard_normal(2)
        return {
            "code": float(1.5 + 0.5 * x**-0.4 + trunk + noise[0]),
            "docs": float(2.0 + docs * np.log2(x) + trunk + noise[1]),
        }

    return loss


def read(tmp_path, loss, text=None):
    (found,) = adaptations(planted_records(tmp_path, text or study(), loss, head=HEAD))
    return found, {each.name: each for each in found.quantities}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return read(tmp_path_factory.mktemp("adaptation"), planted())[0]


def test_a_planted_power_law_is_found(found):
    known = {each.name: each for each in found.quantities}
    exponent = known["exponent of loss on code, 'code'"]
    assert exponent.low < 0.4 < exponent.high
    assert exponent.high - exponent.low < 0.15
    floor = known["floor of loss on code, 'code'"]
    assert floor.low < 1.5 < floor.high
    twice = known["loss on code at twice the longest, 'code'"]
    assert twice.low < 1.5 + 0.5 * 64**-0.4 < twice.high
    assert twice.unit == "nats per token"
    assert found.variants == tuple(f"code-{steps}" for steps in STEPS)
    (code,) = (curve for curve in found.curves if curve.on == "code")
    assert code.held_out.measured in code.held_out.predicted
    assert code.held_out.measured == pytest.approx(1.5 + 0.5 * 32**-0.4, abs=0.02)
    assert "(extrapolated); the longest, left out, is predicted at" in found.lead


def test_what_rises_is_forgotten_and_has_no_law(found):
    known = {each.name: each for each in found.quantities}
    slope = known["change of loss on docs per doubling, 'code'"]
    assert slope.low < 0.01 < slope.high
    assert slope.low > 0
    assert "exponent of loss on docs, 'code'" not in known
    assert "Loss on docs rises: more training forgets, +0.0" in found.lead


def test_noise_alone_neither_forgets_nor_learns(tmp_path):
    hits, forgot = [], []
    for draw in range(20):
        loss = planted(own=5e-3, docs=0.0, draw=draw)

        def flat(run, loss=loss):
            docs = loss(run)["docs"]
            return {"code": docs, "docs": docs}

        found, _ = read(tmp_path, flat)
        hits.append(0.0 in found.curves[0].per_doubling)
        forgot.append(found.curves[0].forgets)
    assert np.mean(hits) > 0.75
    assert np.mean(forgot) < 0.2


@pytest.mark.medium
def test_a_turn_has_a_slope_and_no_law(tmp_path):
    loss = planted()

    def turning(run):
        losses = loss(run)
        x = (run.tokens - run.fork_tokens) / (STEPS[0] * 512)
        losses["docs"] += 0.01 * (np.log2(x) - 3) ** 2 - 0.02 * np.log2(x)
        return losses

    found, known = read(tmp_path, turning)
    assert "Loss on docs falls and rises with length: -0.0" in found.lead
    assert "exponent of loss on docs, 'code'" not in known
    assert known["change of loss on docs per doubling, 'code'"].low is not None


def test_one_seed_has_no_law(tmp_path):
    found, known = read(tmp_path, planted(), study(seeds=1))
    assert all(each.low is None for each in found.quantities)
    assert set(known) == {f"change of loss on {on} per doubling, 'code'" for on in ("code", "docs")}
    assert found.warnings[0].code == "one-seed"


@pytest.mark.medium
def test_tokens_of_a_chain_are_those_of_the_last_mixture(tmp_path):
    text = study(
        "".join(
            f"      on-{steps}: [{{stable: 300 steps}}, {{mixture: {{code: 1}}, stable: {steps} "
            f"steps}}, {{decay: {steps} steps}}]\n"
            for steps in STEPS
        )
    )
    found, _ = read(tmp_path, planted(docs=-0.001), text)
    assert found.group == "on"
    assert sorted(set(found.curves[0].tokens)) == [2 * steps * 512 for steps in STEPS]


@pytest.mark.parametrize(
    "changed",
    ["final_factor: 0.01, ", "shape: one_minus_sqrt, ", "batch_tokens: 1024, ", "rate: 0.5, "],
)
@pytest.mark.medium
def test_another_recipe_is_no_part_of_the_group(tmp_path, changed):
    lines = LENGTHS.splitlines(keepends=True)
    text = study("".join(lines[:4]) + lines[4].replace("{mixture", f"{{{changed}mixture"))
    found, _ = read(tmp_path, planted(), text)
    assert len(found.variants) == 4
    three = study("".join(lines[:3]) + lines[4].replace("{mixture", f"{{{changed}mixture"))
    assert not adaptations(planted_records(tmp_path, three, planted(), head=HEAD))


@pytest.mark.medium
def test_weights_that_mean_the_same_are_one_mixture(tmp_path):
    text = study(LENGTHS.replace("code-100: {mixture: {docs: 1, code: 1}",
                                 "code-100: {mixture: {docs: 7, code: 7}"))  # fmt: skip
    assert len(read(tmp_path, planted(), text)[0].variants) == len(STEPS)


@pytest.mark.medium
def test_diverged_runs_are_named_and_half_done_studies_are_read(tmp_path):
    found, _ = read(tmp_path, planted(blown={("code-200", 1)}))
    (warning,) = (each for each in found.warnings if each.code == "unfinished-variants")
    assert warning.values == {"variants": ("code-200",)}
    records = planted_records(tmp_path, study(seeds=2), planted(), head=HEAD)
    for done in range(0, len(records.runs), 4):
        for part in adaptations(replace(records, runs=records.runs[:done])):
            assert part.lead
            assert all(np.isfinite(each.value) for each in part.quantities)
    assert sum(isinstance(each, AdaptationFinding) for each in findings_of(records)) == 1


@pytest.mark.medium
def test_the_figure_has_a_panel_for_each_set(found, tmp_path):
    (drawing,) = adaptation_drawings(found)
    assert drawing.save(tmp_path, np.array([])).stat().st_size > 5000
    titles = [axes.get_title(loc="left") for axes in drawing.plain(np.array([])).axes]
    assert titles == ["Loss on code (nats per token)", "Loss on docs (nats per token)"]

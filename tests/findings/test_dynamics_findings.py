"""Planted dynamics are read back: ratios, exponents, the paper's claims held or not, what lacks."""

import dataclasses
import math

import numpy as np
import pytest
from unrun import planted_records

from windtunnel.findings import read_records, write_records
from windtunnel.findings.dynamics import training_dynamics
from windtunnel.report.figures.dynamics import PANELS, drawings
from windtunnel.runs.dynamics import SERIES, SegmentDynamics
from windtunnel.runs.plan import make_plan
from windtunnel.runs.points import StudyContext

HEAD = """
data: {sources: [builtin:docs]}
model: {sizes: [32x3, 64x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: exponential, decay_fraction: 0.2}
dynamics: {window: 50}
"""
SCALING = """
  - {kind: scaling, name: dyn, sizes: [64x3], horizons: [3000 steps], seeds: %s, hold_out: none}
"""
MATRICES = [f"blocks.{n}.{m}" for n in range(3) for m in ("qkv", "out", "gate_up", "down")]


def papers(lr, rng):
    """The paper's findings: all of them, with a tenth of noise."""
    share = lr / 8e-3

    def noisy(values):
        return values * np.exp(0.05 * rng.standard_normal(lr.size))

    return {
        "loss": 2.0 - 0.3 * (1 - share),
        "cosine": 0.1 - 0.1 * share,
        "cosine_positive": 0.9 - 0.4 * share,
        "d1": -noisy(0.02 * share),
        "d1_size": noisy(0.02 * share),
        "d2": noisy(0.8 * share**-0.1),
        "d2_size": noisy(0.8 * share**-0.1),
        "curvature": noisy(0.8 * share**-1.1),
        "grad_norm": noisy(share**0.2),
    }


def ours(lr, rng):
    """Noise of batches: D1 does not fall, cosines become fewer, the gradient only scatters."""
    share = lr / 8e-3
    found = papers(lr, rng)
    found["cosine_positive"] = 0.6 + 0.3 * share
    found["d1_size"] = 0.02 * np.exp(0.05 * rng.standard_normal(lr.size))
    found["grad_norm"] = np.exp(0.3 * rng.standard_normal(lr.size))
    return found


def with_dynamics(records, world=papers, *, bins=60, without=()):
    """The records with dynamics of every segment, the change of a weight as rate^0.9."""
    plan = make_plan(StudyContext(config=records.config, vocab_size=256, stream="planted"))
    found = []
    for planned in plan.segments:
        if planned.segment.kind in without:
            continue
        rng = np.random.default_rng([planned.segment.root.init_seed, planned.end])
        edges = np.linspace(planned.segment.fork_step, planned.end, bins + 1).round()
        after, step = edges[:-1], edges[1:]
        middle = ((after + step) / 2).astype(int).tolist()
        lr = np.array([8e-3 * planned.segment.schedule(s) for s in middle])
        window = step // 50 > after // 50  # a window ended here
        changes = {
            name: np.where(window, (1 + k) * lr**0.9 * np.exp(0.02 * rng.standard_normal(bins)),
                           np.nan)
            for k, name in enumerate(MATRICES)
        }  # fmt: skip
        found.append(
            SegmentDynamics(
                segment=planned.id,
                trunk=planned.segment.root.id,
                kind=planned.segment.kind,
                params=planned.segment.model.params,
                seed=planned.segment.root.init_seed,
                after=after,
                step=step,
                series={"lr": lr, **world(lr, rng)},
                changes=changes,
            )
        )
    return dataclasses.replace(records, dynamics=tuple(found))


@pytest.fixture
def planted(tmp_path):
    def plant(seeds="4", head=HEAD, experiments=None, loss=lambda _: 1.6):
        return planted_records(tmp_path, experiments or SCALING % seeds, loss, head=head)

    return plant


def numbers(finding):
    return {each.name: each for each in finding.quantities}


def test_planted_ratios_and_exponents_come_back(planted):
    (finding,) = training_dynamics(with_dynamics(planted()))
    assert (finding.what, len(finding.pairs), finding.lacking) == ("64x3 to 3000 steps", 4, 0)
    found = numbers(finding)
    # Windows of 50 updates that end at 450, 500 .. 600 of the decay's 600.
    windows = np.mean(0.1 ** (0.9 * np.arange(500, 601, 50) / 600))
    change = found["change of weights, end of decay over stable"]
    assert change.value == pytest.approx(windows, rel=0.05)
    assert len(found) == len(finding.quantities)
    # The rate falls as 0.1^t; its mean power p over the last quarter, from t = 0.75 to 1.
    late = {p: np.mean(0.1 ** (p * np.linspace(0.75, 1, 1000))) for p in (0.2, -0.1, -1.1)}
    for name, power in (
        ("gradient norm, end of decay over stable", 0.2),
        ("size of D2, end of decay over stable", -0.1),
        ("curvature, end of decay over stable", -1.1),
    ):
        assert found[name].value == pytest.approx(late[power], rel=0.05)
        assert found[name].low < found[name].value < found[name].high
    for name, truth in (
        ("exponent of change on rate", 0.9),
        ("exponent of the size of D1 on rate", 1.0),
        ("exponent of curvature on rate", -1.1),
    ):
        assert found[name].value == pytest.approx(truth, abs=0.02)
    assert found["correlation of ln change with ln rate, lowest matrix"].value > 0.99
    assert found["share of positive cosines in stable"].value == pytest.approx(0.5)
    assert found["mean of D1, end of decay over stable"].value == pytest.approx(0.13, rel=0.1)
    assert found["fall of the training loss over the decay"].value == pytest.approx(0.26, abs=0.01)
    assert found["fall of the training loss over as many updates before"].value == pytest.approx(0)


def test_each_claim_is_judged(planted):
    (as_paper,) = training_dynamics(with_dynamics(planted()))
    assert [claim.held for claim in as_paper.claims] == [True] * 6
    assert "of MiniCPM's six findings 6 held here." in as_paper.lead
    (finding,) = training_dynamics(with_dynamics(planted(), ours))
    assert [claim.held for claim in finding.claims] == [True, None, False, False, True, True]
    assert "3 held here, 2 did not hold here, 1 not told from noise" in finding.lead
    assert "Not told from noise: the gradient norm perhaps diminished" in finding.lead
    assert "did not become more often positive (in 72% of the decay's updates, in 90% before)" in (
        finding.lead
    )


def test_one_seed_has_no_intervals_and_says_so(planted):
    (finding,) = training_dynamics(with_dynamics(planted("[0]")))
    assert all(each.low is None for each in finding.quantities)
    assert len(finding.claims) == 6
    assert finding.warnings[0].code == "one-seed"


@pytest.mark.parametrize(
    ("without", "bins"), [(("trunk",), 60), (("branch",), 60), (("trunk", "branch"), 60), ((), 6)]
)
def test_what_lacks_is_said(planted, without, bins):
    """Finished before dynamics were asked for, or in too few bins to show a course."""
    (finding,) = training_dynamics(with_dynamics(planted(), bins=bins, without=without))
    assert finding.quantities == ()
    assert finding.claims == ()
    assert finding.lacking == 4
    assert "4 finished decays have no dynamics" in finding.lead
    assert (finding.warnings[0].code, finding.warnings[0].values["decays"]) == ("few-dynamics", 4)
    assert drawings(finding) == []


def test_a_half_done_sweep_and_diverged_seeds_are_left_out(planted):
    records = with_dynamics(planted(loss=lambda run: None if run.init_seed == 1 else 1.6))
    (finding,) = training_dynamics(records)
    assert [pair.trunk.seed for pair in finding.pairs] == [0, 2, 3]
    begun = dataclasses.replace(
        records, runs=tuple(run for run in records.runs if run.kind == "trunk")
    )
    assert training_dynamics(begun) == ()
    assert training_dynamics(planted(head=HEAD.replace("dynamics: {window: 50}", ""))) == ()


def test_a_diverged_number_costs_its_quantity_alone(planted):
    def world(lr, rng):
        return papers(lr, rng) | {"curvature": np.full(lr.size, np.nan)}

    (finding,) = training_dynamics(with_dynamics(planted(), world))
    assert "curvature, end of decay over stable" not in numbers(finding)
    assert len(finding.claims) == 5
    assert drawings(finding)


def test_groups_are_told_apart_by_what_varied(planted):
    grid = """
  - kind: grid
    name: rates
    axes: {size: [32x3, 64x3], recipe.lr: [4e-3, 8e-3]}
    horizons: [3000 steps]
    seeds: 2
"""
    found = training_dynamics(with_dynamics(planted(experiments=grid)))
    assert {each.what for each in found} == {
        "32x3 to 3000 steps, lr 0.004",
        "32x3 to 3000 steps, lr 0.008",
        "64x3 to 3000 steps, lr 0.004",
        "64x3 to 3000 steps, lr 0.008",
    }
    assert {len(each.pairs) for each in found} == {2}


def test_records_hold_it_in_a_small_file(planted, tmp_path):
    records = with_dynamics(planted("3"), bins=200)
    write_records(records, tmp_path / "records")
    assert (tmp_path / "records" / "dynamics.csv").stat().st_size < 300_000
    again = read_records(tmp_path / "records")
    assert len(again.dynamics) == 6
    for one, other in zip(records.dynamics, again.dynamics, strict=True):
        assert (one.segment, one.kind, one.seed) == (other.segment, other.kind, other.seed)
        assert set(other.series) == set(SERIES)
        for name in SERIES:
            np.testing.assert_allclose(one.series[name], other.series[name], rtol=1e-3)
        for name in MATRICES:
            np.testing.assert_allclose(one.changes[name], other.changes[name], rtol=1e-3)
    (before,), (after,) = training_dynamics(records), training_dynamics(again)
    for one, other in zip(before.quantities, after.quantities, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-2, abs=1e-3)
    (tmp_path / "records" / "dynamics.csv").unlink()
    assert read_records(tmp_path / "records").dynamics == ()


def test_the_figure_has_every_series(planted, tmp_path):
    (finding,) = training_dynamics(with_dynamics(planted("2")))
    (drawing,) = drawings(finding)
    assert drawing.name == "training-dynamics-64x3-to-3000-steps"
    sizes = np.array([float(pair.branch.params) for pair in finding.pairs])
    assert drawing.save(tmp_path, sizes).stat().st_size > 20_000
    picture = drawing.picture("x", lambda _: "#010105", str)
    for title, *_ in PANELS:
        assert title.split(",")[0] in picture.wide
        assert title.split(",")[0] in picture.narrow
    assert not math.isnan(finding.pairs[0].fork)

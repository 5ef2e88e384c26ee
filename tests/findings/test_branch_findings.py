from dataclasses import replace

import numpy as np
import pytest
from unrun import planted_records, with_losses

from windtunnel.findings import findings_of
from windtunnel.findings.branches import BranchFinding, branchings
from windtunnel.report.figures.branches import branch_drawings
from windtunnel.runs.table import variant_name

HEAD = """
data: {sources: [builtin:docs, {path: "builtin:code", weight: 0}]}
model: {sizes: [32x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: linear, decay_fraction: 0.2}
"""
MIXED = """
  - kind: branch
    name: to-code
    forks: [4e5 tokens]
    seeds: 3
    variants:
      plain: {}
      half: {mixture: {docs: 1, code: 1}}
      tenth: {mixture: {docs: 9, code: 1}}
      all: {mixture: {code: 1}}
      wasted: {final_factor: 1}
"""
GAPS = {
    "plain": (0.0, 0.0),
    "tenth": (0.002, -0.08),
    "half": (0.04, -0.2),
    "all": (0.26, -0.25),
    "wasted": (0.05, 0.03),
}
"""On docs and on code, against plain."""


def planted(*, own=0.0, gaps=GAPS, blown=(), draw=0):
    """Losses with GAPS; seeds differ by 0.05, which a trunk shares, and each branch by `own`."""
    rng, seeds = np.random.default_rng(draw), {}

    def loss(run):
        if (variant_name(run.variants), run.init_seed) in blown:
            return None
        shared = seeds.setdefault(run.init_seed, 0.05 * rng.standard_normal(2))
        both = zip(("docs", "code"), gaps[variant_name(run.variants)], shared, strict=True)
        return {on: float(2.1 + gap + seed + own * rng.standard_normal()) for on, gap, seed in both}

    return loss


def read(tmp_path, loss, text=MIXED):
    (found,) = branchings(planted_records(tmp_path, text, loss, head=HEAD))
    return found, {each.name: each for each in found.quantities}


def test_planted_differences_come_back_whatever_the_seeds_are(tmp_path):
    found, known = read(tmp_path, planted())
    assert len(known) == len(found.quantities) == 2 * (4 + 5)
    for name in ("tenth", "half", "all", "wasted"):
        for place, on in enumerate(("docs", "code")):
            gap = known[f"loss on {on}, '{name}' minus 'plain'"]
            assert gap.value == pytest.approx(GAPS[name][place], abs=1e-9)
            # The noise of the seeds is 0.05, and is shared.
            assert gap.high - gap.low < 1e-9
            assert gap.unit == "nats per token"
    mean = known["loss on docs of 'plain'"]
    assert mean.high - mean.low > 0.02
    assert found.warnings == ()


def test_noise_of_branches_gives_intervals_that_cover(tmp_path):
    hits = []
    for repeat in range(30):
        rng = np.random.default_rng(repeat)
        noise = {name: rng.normal(0, 1e-3, (3, 2)) for name in GAPS}

        def loss(run, noise=noise):
            own = noise[variant_name(run.variants)][run.init_seed]
            both = 2 + np.array(GAPS[variant_name(run.variants)]) + own
            return dict(zip(("docs", "code"), both.tolist(), strict=True))

        found, _ = read(tmp_path, loss)
        hits += [
            GAPS[variant.name][place] in found.gap(variant, on)
            for variant in found.others
            for place, on in enumerate(("docs", "code"))
        ]
    # 240 intervals at 90%, four of a set sharing their first variant.
    assert 0.8 < np.mean(hits) < 0.97


def test_the_lead_names_the_lowest_the_trades_and_the_frontier(tmp_path):
    found, _ = read(tmp_path, planted())
    assert "loss on docs is lowest with 'plain', and next with 'tenth', 0.0020 (" in found.lead
    assert "loss on code is lowest with 'all', 0.2500 (0.2500 to 0.2500) nats below" in found.lead
    assert "'half' gains 0.2000 (0.2000 to 0.2000) on code and loses 0.0400 (" in found.lead
    assert "'wasted' gains" not in found.lead
    assert (
        "are 'plain', 'half', 'tenth' and 'all', and not 'wasted', which 'plain' beats."
        in found.lead
    )
    ((source, along),) = found.mixture_axes
    assert (source, [variant.name for variant in along]) == (
        "code",
        ["plain", "tenth", "half", "all"],
    )


def test_what_beats_a_variant_is_named_where_it_is_not_the_first(tmp_path):
    # Against 'plain' it gains on code.
    found, _ = read(tmp_path, planted(gaps=GAPS | {"wasted": (0.05, -0.1)}))
    assert "and not 'wasted', which 'half' beats." in found.lead
    found, _ = read(tmp_path, planted(gaps=GAPS | {"wasted": (0.05, -0.1), "tenth": (0.1, 0.0)}))
    assert "not 'tenth', which 'plain' beats, nor 'wasted', which 'half' beats." in found.lead


@pytest.mark.medium
def test_variants_that_are_all_the_same_stay_on_the_frontier(tmp_path):
    same = dict.fromkeys(GAPS, (0.0, 0.0))
    whole = [
        len(read(tmp_path, planted(own=0.02, gaps=same, draw=draw))[0].frontier) == 5
        for draw in range(40)
    ]
    # Twenty pairs on two sets; of Student's intervals few such studies would have none beyond 0.
    assert np.mean(whole) >= 0.75


def test_more_training_is_told_and_beats_nothing(tmp_path):
    text = MIXED.replace("wasted: {final_factor: 1}", "wasted: {decay: 3e5 tokens}")
    found, _ = read(tmp_path, planted(gaps=GAPS | {"wasted": (-0.1, -0.4)}), text)
    assert len(found.frontier) == 5
    (warning,) = found.warnings
    assert warning.code == "different-lengths"
    assert warning.values["tokens"][-1] == 700_416
    assert "'wasted' after 700,416 tokens" in warning.message


def test_what_ends_undecayed_beside_decays_is_told(tmp_path):
    text = MIXED.replace("wasted: {final_factor: 1}", "wasted: [{}, {stable: 9 steps}]")
    found, _ = read(tmp_path, planted(), text)
    undecayed, lengths = found.warnings
    assert (undecayed.code, undecayed.values["variants"]) == ("undecayed-variants", ["wasted"])
    assert lengths.code == "different-lengths"
    text, held = MIXED.split("      tenth", maxsplit=1)[0], "{stable: 9 steps"
    text = text.replace("plain: {", f"plain: {held}").replace("half: {", f"half: {held}, ")
    assert read(tmp_path, planted(), text)[0].warnings == ()


def test_two_seeds_are_told_of(tmp_path):
    found, _ = read(tmp_path, planted(own=1e-3), MIXED.replace("seeds: 3", "seeds: 2"))
    (warning,) = found.warnings
    assert warning.code == "two-seeds"
    assert warning.values == {"base": "plain", "variants": ["half", "tenth", "all", "wasted"]}


def test_one_seed_has_no_interval(tmp_path):
    found, _ = read(tmp_path, planted(), MIXED.replace("seeds: 3", "seeds: 1"))
    assert all(each.low is None for each in found.quantities)
    assert [warning.code for warning in found.warnings] == ["one-seed"]
    assert "not 'wasted', which 'plain' beats." in found.lead
    assert branch_drawings(found)[0].save(tmp_path, np.array([])).stat().st_size > 5000


def test_diverged_and_missing_runs_are_named(tmp_path):
    loss = planted(blown={("half", 0), ("half", 2), ("plain", 1)})
    records = planted_records(tmp_path, MIXED, loss, head=HEAD)
    kept = tuple(r for r in records.runs if r.kind == "trunk" or variant_name(r.variants) != "all"
                 or r.init_seed == 0)  # fmt: skip
    (found,) = branchings(replace(records, runs=kept))
    assert [(warning.code, warning.values) for warning in found.warnings] == [
        ("no-shared-seed", {"base": "plain", "variants": ["half"]}),
        ("one-shared-seed", {"base": "plain", "variants": ["all"]}),
        ("two-seeds", {"base": "plain", "variants": ["tenth", "wasted"]}),
        ("diverged-runs", {"seeds": {"plain": (1,), "half": (0, 2)}}),
        ("missing-runs", {"seeds": {"all": (1, 2)}}),
    ]
    # 'half' has seed 1 alone, which 'plain' lacks.
    assert [variant.name for variant in found.others] == ["tenth", "all", "wasted"]


def test_a_trunk_that_diverged_takes_its_branches_along(tmp_path):
    records = planted_records(tmp_path, MIXED, planted(), head=HEAD)
    lost = tuple(
        with_losses(run, None) if run.kind == "trunk" else run
        for run in records.runs
        if run.init_seed != 2 or run.kind == "trunk"
    )
    (found,) = branchings(replace(records, runs=lost))
    assert all(seeds == (2,) for seeds in found.results.diverged.values())
    assert len(found.results.diverged) == 5
    assert not found.results.missing


def test_a_stage_that_diverged_takes_every_variant_that_goes_through_it_along(tmp_path):
    text = """
  - kind: branch
    name: routes
    forks: [2e5 tokens, 4e5 tokens]
    seeds: 2
    variants:
      plain: {decay: 90 steps}
      half: [{stable: 50 steps, mixture: {docs: 1, code: 1}}, {decay: 50 steps}]
      tenth: [{stable: 50 steps, mixture: {docs: 3, code: 3}}, {decay: 60 steps}]
      all: [{stable: 50 steps, mixture: {code: 1}}, {decay: 50 steps}]
      again: [{decay: 90 steps}, {decay: 40 steps, warmup: 9 steps}]
"""

    def loss(run):
        assert run.loss is None
        return {"docs": 2.0, "code": 2.0}

    records = planted_records(tmp_path, text, loss, head=HEAD)
    (early, late) = sorted({run.fork_tokens for run in records.runs if run.fork_tokens})
    blown = {
        run.segment
        for run in records.runs
        # The first stage of 'half' is that of 'tenth' too, and 'plain' that of 'again'.
        if (variant_name(run.variants), run.init_seed, run.fork_tokens)
        in {("half/1", 1, late), ("plain", 0, late), ("plain", 1, early)}
    }
    assert len(blown) == 3
    runs = tuple(
        with_losses(run, None) if run.segment in blown else run
        for run in records.runs
        if run.parent not in blown
        and (variant_name(run.variants), run.init_seed, run.fork_tokens) != ("all", 1, late)
    )
    first, second = branchings(replace(records, runs=runs))
    assert first.results.diverged == {"plain": (1,), "again": (1,)}
    assert not first.results.missing
    assert second.results.diverged == {"plain": (0,), "half": (1,), "tenth": (1,), "again": (0,)}
    assert second.results.missing == {"all": (1,)}
    told = {warning.code: warning.values for warning in second.warnings}
    assert told["diverged-runs"] == {"seeds": second.results.diverged}


def test_without_the_first_variant_the_next_is_the_base(tmp_path):
    found, known = read(tmp_path, planted(blown={("plain", seed) for seed in range(3)}))
    assert known["loss on docs, 'all' minus 'half'"].value == pytest.approx(0.22, abs=1e-9)
    told = {warning.code: warning.values for warning in found.warnings}
    assert told["other-base"] == {"variant": "plain", "base": "half"}


def test_forks_are_apart_and_half_done_studies_are_read(tmp_path):
    text = MIXED.replace("[4e5 tokens]", "[2e5 tokens, 4e5 tokens]")
    records = planted_records(tmp_path, text, planted(own=1e-3), head=HEAD)
    assert [each.fork for each in branchings(records)] == ["200000 tokens", "400000 tokens"]
    for done in range(len(records.runs)):
        for found in branchings(replace(records, runs=records.runs[:done])):
            assert found.lead
            assert all(np.isfinite(each.value) for each in found.quantities)
    assert sum(isinstance(each, BranchFinding) for each in findings_of(records)) == 2


@pytest.mark.parametrize(
    ("sets", "name"),
    [
        (("docs", "code"), "variants-frontier"),
        (("docs",), "variants"),
        (("docs", "code", "web"), "variants"),
    ],
)
@pytest.mark.medium
def test_figures(tmp_path, sets, name):
    gaps = {variant: (*both, 0.5 * both[0]) for variant, both in GAPS.items()}
    rng = np.random.default_rng(1)

    def loss(run):
        mine = gaps[variant_name(run.variants)]
        return {
            on: 2 + gap + 3e-3 * rng.standard_normal() for on, gap in zip(sets, mine, strict=False)
        }

    found, _ = read(tmp_path, loss)
    (drawing,) = branch_drawings(found)
    path = drawing.save(tmp_path, np.array([]))
    assert path.name == f"{name}-32x3-400000-tokens.png"
    assert path.stat().st_size > 5000
    seen = drawing.plain(np.array([])).axes
    assert len(seen) == (1 if name == "variants-frontier" else len(sets))
    words = [text.get_text() for text in seen[0].texts]
    assert words == (["plain", "half", "tenth", "all", "wasted"] if len(sets) == 2 else [])


def test_ramps_and_chains_are_ways_of_their_own(tmp_path):
    text = """
  - kind: branch
    name: routes
    forks: [4e5 tokens]
    seeds: 2
    variants:
      at-once: {mixture: {docs: 1, code: 1}, decay: 100 steps}
      ramped: {mixture: {docs: 1, code: 1}, ramp: 40 steps, decay: 100 steps}
      more: {mixture: {code: 1}, decay: 100 steps}
      less: {mixture: {docs: 3, code: 1}, decay: 100 steps}
      chain: [{stable: 50 steps}, {mixture: {code: 1}, decay: 50 steps}]
"""

    def loss(run):
        assert run.loss is None
        return {"docs": 2.0, "code": 2.0}

    (found,) = branchings(planted_records(tmp_path, text, loss, head=HEAD))
    assert [variant.name for variant in found.variants] == [
        "at-once",
        "ramped",
        "more",
        "less",
        "chain",
    ]
    assert len({variant.tokens for variant in found.variants}) == 1
    assert (
        len({variant.besides for variant in found.variants}) == 3
    )  # mixtures alone make no other kind


def test_each_experiment_has_its_own_name_for_a_branch(tmp_path):
    text = """
  - kind: branch
    name: one
    forks: [800 steps]
    seeds: 1
    variants: {plain: {}, again: [{}, {warmup: 20 steps, decay: 50 steps}]}
  - kind: branch
    name: two
    forks: [800 steps]
    seeds: 1
    variants: {tuned: [{}, {rate: 0.1, decay: 60 steps}]}
"""
    records = planted_records(tmp_path, text, lambda run: 3.0)
    shared = "one:plain+two:tuned/1"
    assert {variant_name(run.variants) for run in records.runs} == {None, shared, "again", "tuned"}
    assert {variant_name(run.variants) for run in records.of("one")} == {"plain", "again"}
    assert {variant_name(run.variants) for run in records.of("two")} == {"tuned/1", "tuned"}

"""A store filled from a planted law: real records, measurements and curves, and no training."""

import numpy as np

from windtunnel.config import Branch
from windtunnel.laws import Chinchilla, Fit, fit
from windtunnel.runs.forecast import as_table, law_inputs, law_runs
from windtunnel.runs.imported import study_runs
from windtunnel.runs.study import Study, open_study

LAW = Chinchilla(E=1.1, A=30.0, B=120.0, alpha=0.33, beta=0.34)
SIGMA_TRUNK, SIGMA_BRANCH = 0.0025, 0.001
UNDECAYED = 1.03
"""A stable phase's loss over a decayed one's."""

EXECUTION = {
    "device": "cpu",
    "device_kind": "x86_64 AVX512",
    "precision": "fp32",
    "compile": False,
    "threads": 1,
    "micro_batch_rows": 16,
    "deterministic": False,
    "torch": "2.13.0",
    "windtunnel": "0.1.0",
}

STUDY = """\
study: {name}
data:
  sources: [text.txt]
  validation: {{fraction: 0.2, tokens: 2048, fork_tokens: 1024}}
model:
  sizes: [{sizes}]
  head_dim: 16
  context: 64
recipe:
  lr: 1e-2
  base_width: 32
  batch_tokens: {batch}
  warmup_steps: 20
experiments:
{experiments}
store: store
"""
SCALING = "  - {kind: scaling, horizons: [10N, 20N, 40N, 80N, 160N], seeds: 2}"


def make_study(
    folder, *, name="wind", sizes="32x2, 48x2, 64x3, 80x4, 96x5", batch=1024, experiments=SCALING
) -> Study:
    """A study over a page of made-up text, its data prepared."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 5)) for _ in range(400)]
    documents = [" ".join(rng.choice(words, 60)) for _ in range(300)]
    (folder / "text.txt").write_text("\n\n".join(documents))
    file = folder / "study.yaml"
    file.write_text(STUDY.format(name=name, sizes=sizes, batch=batch, experiments=experiments))
    return open_study(file, prepared=True)


def fill(
    study, *, seed=0, skip=lambda planned: False, law=LAW, curve_rows=300, copying=None
) -> None:
    """Finish every planned segment that is not skipped, with losses of the law and its noise.

    `copying` gives the copy gain of a planned segment.
    """
    noise: dict[str, float] = {}
    rng = np.random.default_rng(seed)
    for planned in study.plan.segments:
        segment, root = planned.segment, planned.segment.root.id
        shared = noise.setdefault(root, SIGMA_TRUNK * rng.standard_normal())
        own = SIGMA_BRANCH * rng.standard_normal()
        if skip(planned):
            continue
        folder = study.store.segment(planned.id)
        folder.create(segment)
        folder.set_execution(EXECUTION)
        stops = (planned.end,) if isinstance(segment, Branch) else planned.forks
        lifted = 1.0 if isinstance(segment, Branch) else UNDECAYED
        for step in stops:
            tokens = step * segment.recipe.batch_tokens
            loss = lifted * float(law(segment.model.params, tokens)) * np.exp(shared + own)
            folder.add_measurement(step, _sets(study, float(loss)))
        if copying is not None:
            (name, last), *_ = folder.measurements[planned.end].items()
            gain = {"gain": float(copying(planned)), "standard_error": 0.001, "chunks": 64}
            folder.add_measurement(planned.end, {name: last | {"copy_gain": gain}})
        write_curve(folder, planned, law, shared, rows=curve_rows)
        folder.finish(
            {
                "segment": planned.id,
                "outcome": "finished",
                "reached": planned.end,
                "seconds": planned.tokens * segment.model.flops_exact_per_token / 5e10,
                "epochs": {"text": 0.5},
                "execution": EXECUTION,
                "written": 1.8e9,
            }
        )


def fill_one(study, planned, *, loss) -> None:
    """Finish a segment with one loss at all of its stops."""
    folder = study.store.segment(planned.id)
    folder.create(planned.segment)
    folder.set_execution(EXECUTION)
    for step in (planned.end,) if isinstance(planned.segment, Branch) else planned.forks:
        folder.add_measurement(step, _sets(study, float(loss)))
    _finish(folder, planned, outcome="finished", reached=planned.end)


def diverge(study, planned, *, reached) -> None:
    """End a segment as diverged."""
    folder = study.store.segment(planned.id)
    folder.create(planned.segment)
    folder.set_execution(EXECUTION)
    _finish(folder, planned, outcome="diverged", reached=reached)


def _finish(folder, planned, *, outcome, reached) -> None:
    folder.finish(
        {
            "segment": planned.id,
            "outcome": outcome,
            "reached": reached,
            "seconds": 1.0,
            "epochs": {"text": 0.1},
            "execution": EXECUTION,
            "written": 1.8e9,
        }
    )


def write_curve(folder, planned, law, shared, *, rows) -> None:
    """Training losses along the path: the law lifted in the stable phase, sinking in the decay."""
    segment = planned.segment
    rng = np.random.default_rng(int(planned.id, 16) % 2**32)
    first, last = segment.fork_step + 1, planned.end
    steps = np.unique(np.geomspace(first, last, min(rows, last - first + 1)).astype(int))
    tokens = steps * segment.recipe.batch_tokens
    done = (steps - first) / max(last - first, 1)
    lift = 1 + (UNDECAYED - 1) * (1 - done if isinstance(segment, Branch) else np.ones_like(done))
    warm = 1.2 * np.exp(-tokens / (segment.model.params * 0.6))
    loss = lift * (law(segment.model.params, tokens) + warm) * np.exp(shared)
    loss = np.minimum(loss * np.exp(0.012 * rng.standard_normal(loss.size)), 5.6)
    lines = (
        f'{{"step":{s},"tokens":{t},"loss":{v:.5f},"lr":0.01,"grad_norm":1.0,"seconds":{s / 10}}}\n'
        for s, t, v in zip(steps, tokens, loss, strict=True)
    )
    folder.curve.write_text("".join(lines))


def check_of(parametrization, *, passed=True, depth_passed=None):
    """A coordinate check as `windtunnel check mup --json` prints it; of depths too if told so."""
    site = {"name": "logits", "changes": [[0.1, 0.1, 0.1]], "slope": 0.0, "judged": True,
            "lowest": -0.4}  # fmt: skip
    layer = site | {"kind": "readout", "highest": 0.2}
    depth = None if depth_passed is None else {
        "depths": [2, 4, 16], "width": 32, "sites": [layer], "effective": [layer],
        "propagated": [layer], "tolerance": 0.2, "passed": depth_passed,
    }  # fmt: skip
    return {
        "widths": [32, 64, 256], "depth": depth, "parametrization": parametrization,
        "sites": [site],
        "decays": [site | {"name": "weight decay of hidden"}], "tolerance": 0.2,
        "lowest_logits_slope": -0.4, "passed": passed,
    }  # fmt: skip


def _sets(study, loss):
    return {
        each.name: {
            "fingerprint": each.fingerprint,
            "asked": 2048,
            "tokens": 2048,
            "nats_per_token": loss,
            "bits_per_byte": loss / np.log(2),
        }
        for each in study.validation
    }


def write_fit(study, *, bootstrap=300) -> Fit:
    """The fit that a report leaves, with fewer resamples."""
    runs = study_runs(study)
    law = fit(as_table(law_runs(run for run in runs if run.is_of("scaling"))), bootstrap=bootstrap)
    law = law.made_from(law_inputs(study.config.study, runs, {"scaling"}))
    law.to_json(study.folder / "fit.json")
    return law

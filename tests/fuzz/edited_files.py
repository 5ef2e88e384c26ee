"""The files that commands read back, small and without training: fits of all laws, and a store."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import planted
from mixtures import bowl, rows_of

from windtunnel.export.build import build_handoff
from windtunnel.export.request import Request
from windtunnel.export.write import write_export
from windtunnel.findings import records_of, write_records
from windtunnel.laws import DataConstrained, ExpOffset, Power, Power2, PowerOffset, Sigmoid, fit
from windtunnel.laws.mixture import fit_mixture
from windtunnel.runs.budget.calibration import CalibratedShape, Calibration, Timing
from windtunnel.runs.budget.utilisation import SweepTook, log_sweep
from windtunnel.runs.files import append_line, write_json
from windtunnel.runs.forecast import write_forecasts
from windtunnel.runs.imported import Imported, Measured, add_runs
from windtunnel.runs.measured import gather
from windtunnel.runs.search.trial_log import SuggestedTrial, TrialLog, write_suggested
from windtunnel.runs.study import Study, open_study
from windtunnel.runs.study_files import keep_check, keep_handoff
from windtunnel.runs.taken import MeasuredPower, Taken, TakenWinner, write_taken

EXPERIMENTS = """\
  - {kind: scaling, horizons: [10N, 20N, 40N, 80N], seeds: 1, hold_out: largest}
  - kind: search
    name: tune
    size: 32x2
    space:
      recipe.lr: {low: 1e-3, high: 1e-1, log: true}
      model.qk_norm: [true, false]
    trials: 4
    batch: 2
    sampler: sobol
    horizon: 10N
    top: 2
    repeats: 2
"""


def tables() -> dict[str, tuple[dict[str, Any], dict[str, float]]]:
    """A table for each law, and where its fit is asked for a number."""
    rng = np.random.default_rng(0)

    def noisy(values, sigma=0.003):
        return values * np.exp(sigma * rng.standard_normal(values.size))

    x = np.geomspace(1e17, 1e21, 12)
    n, ratio = (each.ravel() for each in np.meshgrid(np.geomspace(1e5, 3e6, 4), [10, 40, 160]))
    d = n * ratio
    unique = np.minimum(d, np.tile([3e6, 4e7, 1e12, 1e12], 3))
    first, second = (each.ravel() for each in np.meshgrid([1e5, 1e6, 1e7], [1e7, 1e8, 1e9]))
    lr, size = (e.ravel() for e in np.meshgrid(np.geomspace(1e-3, 6e-2, 6), [4e7, 1e8, 4e8]))
    valley = 3 * (size / 4e7) ** -0.1 * np.exp(0.03 * np.log(lr / (0.5 * size**-0.2)) ** 2)
    budget = np.repeat([1e18, 1e19, 1e20], 7)
    params = 0.09 * budget**0.5 * np.tile(np.geomspace(0.3, 3, 7), 3)
    iso = 1.7 + 406.4 * params**-0.34 + 410.7 * (budget / 6 / params) ** -0.28
    loss = np.linspace(2, 5, 12)
    repeated = DataConstrained(1.87, 521.0, 1488.0, 0.353, 0.353, 5.31, 15.39)
    at, xy = {"params": 1e6, "tokens": 1e8}, {"x": 1e19}
    law = planted.LAW(n, d)
    return {
        "chinchilla": (
            {"params": n, "tokens": d, "loss": noisy(law), "flops_exact": 9 * n * d,
             "trunk": np.tile(np.arange(4), 3)}, at,
        ),
        "coupled": ({"params": n, "tokens": d, "loss": noisy(law)}, at),
        "auto": ({"params": n, "tokens": d, "loss": noisy(law)}, at),
        "power": ({"x": x, "y": noisy(Power(3e4, -0.21)(x))}, xy),
        "power-offset": ({"x": x, "y": noisy(PowerOffset(1.7, 3e3, -0.19)(x))}, xy),
        "exp-offset": ({"x": x / 1e19, "y": noisy(ExpOffset(3.1, 1.4, 0.3)(x / 1e19))}, {"x": 1.0}),
        "power2": (
            {"x": first, "z": second, "y": noisy(Power2(1.79, -0.713, 0.307)(first, second))},
            {"x": 1e6, "z": 1e8},
        ),
        "data-constrained": (
            {"params": n, "tokens": d, "unique_tokens": unique,
             "loss": noisy(repeated(n, d, unique))}, at,
        ),
        "sigmoid": (
            {"loss": loss, "score": Sigmoid(0.2, 0.6, -4.0, 2.5)(loss)
             + 0.01 * rng.standard_normal(12)}, {"loss": 3.0},
        ),
        "isoflop": ({"params": params, "loss": noisy(iso, 1e-4), "flops": budget}, {"flops": 1e19}),
        "envelope": (_curves(), {"flops": 1e19}),
        "lr-valley": ({"params": size, "lr": lr, "loss": noisy(valley)}, {"params": 1e8}),
        "batch": (_batches(), {"loss": 4.0}),
    }  # fmt: skip


def _curves() -> dict[str, Any]:
    params = np.geomspace(1e7, 1e9, 6)[:, None]
    tokens = params * np.geomspace(1, 300, 40)
    loss = 1.69 + 406.4 * params**-0.34 + 410.7 * tokens**-0.28
    run = np.repeat([f"run {number}" for number in range(6)], 40)
    wide = np.broadcast_to(params, loss.shape).ravel()
    return {
        "flops": (6 * params * tokens).ravel(),
        "loss": loss.ravel(),
        "params": wide,
        "run": run,
    }


def _batches() -> dict[str, Any]:
    rows = []
    for params, low, high in ((9e6, 4.3, 5.3), (1.7e8, 3.3, 4.3)):
        middle = 1.21e9 / np.sqrt(low * high) ** 6.24
        for batch in middle * 2.0 ** np.arange(-2.5, 3):
            for loss in np.geomspace(high * 1.05, low * 0.95, 12):
                off = np.log(batch * loss**6.24 / 1.21e9)
                tokens = 1e9 * (params / 1e8) ** 0.3 * (loss - 1.7) ** -3.0 * np.exp(0.08 * off**2)
                rows.append((params, batch, tokens, loss, f"run {params:g} {batch:g}"))
    names = ("params", "batch_tokens", "tokens", "loss", "run")
    return {
        name: np.array(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }


def fits(folder: Path) -> dict[Path, list[list[str]]]:
    """A written fit of every law, and the commands that read it."""
    found: dict[Path, list[list[str]]] = {}
    for law, (table, at) in tables().items():
        path = folder / f"{law}.json"
        slow = law in {"data-constrained", "auto"}
        count = {"data-constrained": 4, "auto": 50}.get(law, 12)
        fitted = fit(table, law, bootstrap=count, holdout="none" if slow else "largest")
        fitted.to_json(path)
        point = [
            word
            for name, value in at.items()
            for word in (f"--{name.replace('_', '-')}", f"{value:g}")
        ]
        found[path] = [["predict", str(path), *point], ["predict", str(path), *point, "--json"]]
        if fitted.has_optimum:
            found[path] += [
                ["optimum", str(path), "--flops", "1e19", *more] for more in ([], ["--json"])
            ]
    path = folder / "mixture.json"
    fit_mixture(rows_of(bowl, mixtures=9), bootstrap=8).to_json(path)
    shares = ["--weight", "docs=0.6", "--weight", "code=0.4"]
    found[path] = [["predict", str(path), *shares], ["predict", str(path), *shares, "--json"]]
    return found


def store(folder: Path) -> Study:
    """A finished study with a search, a forecast, a fit, a handoff, and what lies beside."""
    study = planted.make_study(folder, sizes="32x2, 48x2, 64x3, 80x4", experiments=EXPERIMENTS)
    (search,) = (each for each in study.config.experiments if each.kind == "search")
    trials = tuple(
        SuggestedTrial(number=k, batch=k // 2, values={"recipe.lr": lr, "model.qk_norm": qk})
        for k, (lr, qk) in enumerate([(0.01, True), (0.02, False), (0.03, True), (0.05, False)])
    )
    write_suggested(study.folder, search, TrialLog(trials=trials, finalists=(0, 1)))
    study = open_study(study.file)
    planted.fill(study, curve_rows=30)
    for planned in study.plan.trunks:
        of = study.store.segment(planned.id)
        of.note("something was noticed")
        for step in planned.forks:
            (of.checkpoint(step)).mkdir(parents=True)
            (of.checkpoint(step) / "optimizer.safetensors").write_bytes(b"0")
        of.release(planned.forks[0], why="gc")
        rows = [json.loads(line) for line in of.curve.read_text().splitlines()]
        for row in rows:
            append_line(of.dynamics, {
                "step": row["step"], "cosine": 0.5, "d1": 0.1, "d2": None, "curvature": 1.0,
                "grad_norm": 1.0, "max_change": {"block.0.q": 0.01},
            })  # fmt: skip
    for planned in study.plan.branches:
        study.store.segment(planned.id).checkpoint(planned.end).mkdir(parents=True)
    _beside(study)
    planted.write_fit(study, bootstrap=20)
    write_json(study.folder / "plan.json", study.plan.model_dump(mode="json"))
    export = build_handoff(study, Request(params=1e5, tokens=2e7, extrapolate=True))
    keep_handoff(study.folder, json.loads(export.handoff.to_json()), target="json")
    write_export(export, "json", folder / "handed")
    write_records(records_of(study), folder / "records")
    return study


def _beside(study: Study) -> None:
    """What lies in the folder of a study, and another study of the same store."""
    rows = gather(study.store, study.plan)
    write_forecasts(study.folder, study.store, study.plan, rows)
    other = study.store.study("other")
    plan = study.plan.model_dump(mode="json") | {"study": "other"}
    write_json(other / "plan.json", plan)
    write_json(other / "orders.json", {})
    keep_check(study.folder, planted.check_of("mup"))
    log_sweep(study.folder, SweepTook(
        began=1.8e9, startup=1.0, seconds=100.0, slots=2, segments=5, busy=150.0, bound=80.0,
    ))  # fmt: skip
    trunk = study.plan.trunks[0].segment
    timing = Timing(update=0.1, evaluation=1e-6, fork=0.1, end=0.1, prepare=0.5, updates=5,
                    device_kind="x86", kernels="torch", compile=False)  # fmt: skip
    shape = CalibratedShape(
        model=trunk.model, batch_tokens=trunk.recipe.batch_tokens, timing=timing
    )
    made = Calibration(written=1.8e9, conditions={"host": "here"}, shapes=(shape,))
    write_json(study.folder / "calibration.json", made.model_dump(mode="json"))
    winner = TakenWinner(source="tune", trial=1, values={"recipe.lr": 0.01}, loss=2.0, taken=1.8e9)
    power = MeasuredPower(setting="lr", along="length", source="grid", power=-0.2, taken=1.8e9)
    write_taken(study.folder, Taken(winners={"scaling": winner}, powers=(power,)))
    first = study.plan.segments[0].id
    write_json(study.folder / "spent_before.json", {first: [1e9, 0.5]})
    add_runs(study.folder, [Imported(
        label="large", time=1.8e9, origin={"tool": "csv", "source": "large.csv"},
        measured=Measured(experiment="scaling", params=300_000, tokens=10_000_000, loss=2.5,
                          losses={"text": 2.5}, decayed=True),
    )])  # fmt: skip


def commands(study: Study) -> dict[Path, list[list[str]]]:
    """Each kind of file of the store, and the commands that read it."""
    file, folder, root = str(study.file), study.folder, study.file.parent
    status, runs, winner, gc, plan = (
        [name, file] for name in ("status", "runs", "winner", "gc", "plan")
    )
    records = ["records", file, "--out", str(root / "records")]
    found: dict[Path, list[list[str]]] = {}
    for planned in (study.plan.trunks[0], study.plan.branches[0]):
        segment = study.store.segment(planned.id).root
        for name in ("record.json", "measurements.json"):
            found[segment / name] = [status, runs, winner, gc, plan, records]
        found[segment / "execution.json"] = [records]
        found[segment / "spec.json"] = [gc]
        found[segment / "curve.jsonl"] = [records, status]
    trunk = study.store.segment(study.plan.trunks[0].id).root
    handed = ["forecast", "check", str(root / "handed"), "--loss", "2.0"]
    found |= {
        trunk / "dynamics.jsonl": [records],
        folder / "data.json": [status],
        folder / "recipes.json": [status, plan],
        folder / "sweeps.jsonl": [status],
        folder / "spent_before.json": [status],
        folder / "calibration.json": [status, plan],
        folder / "search.tune.json": [status, winner, plan],
        folder / "forecasts.jsonl": [records],
        folder / "coordinate-check.mup.json": [records],
        folder / "imported.jsonl": [runs, records],
        study.store.study("other") / "plan.json": [gc],
        root / "handed" / "handoff.json": [handed, [*handed, "--tokens", "4e7", "--json"]],
        root / "handed" / "fits" / "mean.json": [[*handed, "--tokens", "4e7"]],
    }
    return found

import dataclasses
import re

import numpy as np
import pytest

from windtunnel.errors import ConfigError
from windtunnel.laws import Chinchilla, DataConstrained, Table, fit
from windtunnel.report import render
from windtunnel.report.figures.registry import write_figures
from windtunnel.report.figures.style import nice_logs, spread
from windtunnel.report.verdicts import of_frontier, of_residuals

LAW = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
PLANE = ["along-sizes", "contours", "ratio", "residuals", "holdout"]


def noise(size, sigma=0.002, seed=0):
    return np.exp(sigma * np.random.default_rng(seed).standard_normal(size))


def plane(sizes=6, seeds=2):
    params = np.repeat(np.geomspace(2e5, 8e6, sizes), seeds * 4)
    tokens = params * np.tile((10, 30, 100, 300), sizes * seeds)
    trunk = np.repeat(np.arange(sizes * seeds), 4)
    loss = LAW(params, tokens) * noise(sizes * seeds)[trunk]
    return Table(params=params, tokens=tokens, loss=loss, trunk=trunk)


def repeated():
    law = DataConstrained(1.69, 406.4, 410.7, 0.34, 0.28, 5.31, 15.39)
    grid = np.meshgrid(np.geomspace(1e7, 1e9, 4), [1e9, 1e10], [1, 2, 8, 32], indexing="ij")
    params, unique, epochs = (axis.ravel() for axis in grid)
    tokens = unique * epochs
    loss = law(params, tokens, unique) * noise(params.size)
    return Table(params=params, tokens=tokens, unique_tokens=unique, loss=loss)


def curve(formula, x, output="y", given="x"):
    return Table({given: x, output: formula(x) * noise(x.size)})


def isoflop():
    budgets = np.repeat([1e18, 1e19, 1e20], 8)
    best, _ = LAW.log_optimum(LAW.vector, budgets)
    params = np.exp(best) * np.tile(np.geomspace(0.2, 5, 8), 3)
    loss = LAW(params, budgets / 6 / params) * noise(24, 3e-4)
    return Table(params=params, flops=budgets, loss=loss)


def rate_grid():
    params = np.repeat([4e7, 1e8, 3e8, 5e8], 7)
    lr = np.tile(np.geomspace(1e-3, 6.4e-2, 7), 4)
    off = np.log(lr / (0.5 * params**-0.2))
    loss = 3 * (params / 4e7) ** -0.1 * np.exp(0.03 * off**2) * noise(28, 1e-4)
    loss[6] = 7.5  # has blown up
    return Table(params=params, lr=lr, loss=loss)


def batches():
    loss = np.geomspace(4.5, 3.0, 30)
    middle = 1.21e9 / np.sqrt(4.3 * 3.2) ** 6.24
    rows = []
    for run, batch in enumerate(middle * 2.0 ** np.arange(-3, 4)):
        off = np.log(batch * loss**6.24 / 1.21e9)
        tokens = 1e9 * (loss - 1.7) ** -3.0 * np.exp(0.08 * off**2)
        rows += [(1e8, batch, each, y, run) for each, y in zip(tokens, loss, strict=True)]
    params, batch, tokens, loss, run = map(np.array, zip(*rows, strict=True))
    return Table(params=params, batch_tokens=batch, tokens=tokens, loss=loss, labels={"run": run})


def envelope():
    params = np.repeat(np.geomspace(1e7, 1e9, 9), 40)
    tokens = params * np.tile(np.geomspace(1, 300, 40), 9)
    return Table(params=params, flops=6 * params * tokens, loss=LAW(params, tokens),
                 labels={"run": np.repeat(np.arange(9), 40)})  # fmt: skip


X = np.geomspace(1e6, 1e9, 12)
CASES = {
    "chinchilla": (plane, PLANE),
    "data-constrained": (repeated, PLANE),
    "power": (lambda: curve(lambda x: 0.5 * x**-0.3, X), ["law", "residuals", "holdout"]),
    "power-offset": (
        lambda: curve(lambda x: 1.7 + 30 * x**-0.2, X), ["law", "residuals", "holdout"],
    ),
    "exp-offset": (
        lambda: curve(lambda x: 1.7 + 2 * np.exp(-0.2 * x), np.linspace(1, 30, 15)),
        ["law", "residuals", "holdout"],
    ),
    "sigmoid": (
        lambda: curve(lambda x: 0.25 + 0.6 / (1 + np.exp(4 * (x - 2.8))), np.linspace(1.8, 4, 16),
                      output="score", given="loss"),
        ["law", "residuals", "holdout"],
    ),
    "power2": (
        lambda: Table(x=np.repeat(X[::3], 4), z=np.tile(X[::3], 4) * 20,
                      y=np.repeat(X[::3], 4) ** -0.7 * np.tile(X[::3], 4) ** 0.3 * noise(16)),
        ["law", "residuals", "holdout"],
    ),
    "isoflop": (isoflop, ["budgets", "law"]),
    "lr-valley": (rate_grid, ["lr-curves", "law"]),
    "batch": (batches, ["levels", "law"]),
    "envelope": (envelope, ["law"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def six():
    table = plane()
    return fit(table, "chinchilla", bootstrap=100), table


def drawn(paths):
    """Names of the files, each of which is a PNG that is not one flat colour."""
    from matplotlib.image import imread

    for path in paths:
        pixels = imread(path)
        assert pixels.shape[1] == 1520
        assert 0.01 < np.mean(pixels[..., :3].mean(axis=2) < 0.9) < 0.6, path
    return [path.stem for path in paths]


@pytest.mark.parametrize("law", CASES)
@pytest.mark.medium
def test_every_law_has_its_figures(law, tmp_path):
    make, names = CASES[law]
    table = make()
    fitted = fit(table, law, bootstrap=40)
    assert drawn(write_figures(fitted, table, tmp_path / "deep" / law)) == names


@pytest.mark.parametrize("law", CASES)
@pytest.mark.medium
def test_without_intervals_there_is_no_band_and_no_crash(law, tmp_path):
    make, names = CASES[law]
    table = make()
    fitted = fit(table, law, intervals="none", bootstrap=0)
    assert drawn(write_figures(fitted, table, tmp_path)) == [n for n in names if n != "ratio"]


@pytest.mark.parametrize("reading", ["parabola", "parametric"])
@pytest.mark.medium
def test_every_reading_of_a_budget(reading, tmp_path):
    table = isoflop()
    fitted = fit(table, "isoflop", interpolate=reading, bootstrap=0, intervals="none")
    assert drawn(write_figures(fitted, table, tmp_path)) == ["budgets", "law"]


@pytest.mark.parametrize("infinite", [0.02, 0.4, 1.0])
@pytest.mark.medium
def test_infinite_ratios_are_gathered_at_the_end(six, infinite, tmp_path):
    fitted, table = six
    draws = fitted.draws.copy()
    draws[: round(infinite * len(draws)), 1] = 0  # A = 0: size does not matter
    draws[-1, 2] = 0
    intervals = {**fitted.intervals, "ratio": (3.0, np.inf)}
    wild = dataclasses.replace(fitted, draws=draws, intervals=intervals)
    assert drawn(write_figures(wild, table, tmp_path)) == PLANE


@pytest.mark.medium
def test_a_law_without_an_optimum_has_no_frontier(six, tmp_path):
    fitted, table = six
    flat = dataclasses.replace(fitted, form=dataclasses.replace(fitted.form, A=0.0))
    assert "ratio" not in drawn(write_figures(flat, table, tmp_path))


@pytest.mark.medium
def test_many_sizes_and_one_seed(tmp_path):
    table = plane(sizes=40, seeds=1)
    fitted = fit(table, bootstrap=0, intervals="none", holdout=None)
    assert "holdout" not in drawn(write_figures(fitted, table, tmp_path))


@pytest.mark.medium
def test_undecayed_rows_are_not_drawn(tmp_path):
    table = plane()
    mixed = Table(
        {name: np.append(table[name], table[name][:1] * (3 if name == "loss" else 1))
         for name in table.columns},
        decayed=np.arange(table.rows + 1) < table.rows,
    )  # fmt: skip
    fitted = fit(mixed, bootstrap=0, intervals="none")
    first, second = (
        write_figures(fitted, each, tmp_path / name)[0].read_bytes()
        for name, each in (("mixed", mixed), ("pure", mixed.subset(mixed.decayed)))
    )
    assert first == second


def test_a_folder_that_cannot_be_made_is_said(six, tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "figures"
    with pytest.raises(ConfigError) as caught:
        write_figures(*six, folder)
    assert (caught.value.code, caught.value.values["path"]) == ("cannot-write", folder)
    (tmp_path / "along-sizes.png").mkdir()
    with pytest.raises(ConfigError) as caught:
        write_figures(*six, tmp_path)
    path = tmp_path / "along-sizes.png"
    assert (caught.value.code, caught.value.values["path"]) == ("cannot-write", path)


def test_the_report_has_them_in_both_widths(inputs, page):
    for name in ("along-sizes", "contours", "ratio", "holdout"):
        assert f"{name}-scaling-920" in page.html
        assert f"{name}-scaling-350" in page.html
    text = page.section("further-figures")
    fitted = inputs.laws[0].fit
    (view,) = inputs.laws
    for verdict in (of_frontier(view), of_residuals(view, fitted)):
        assert verdict in text
    assert f"{100 * fitted.holdout.covered:.0f}% of the runs held out lie inside" in text
    assert f"in each of {len(fitted.draws)} resamples" in text


@pytest.mark.usefixtures("undrawn")
def test_a_report_of_a_fit_without_resamples_leaves_the_ratio_out(inputs):
    (law,) = inputs.laws
    none = {"draws": law.fit.draws[:0], "sigma_draws": law.fit.sigma_draws[:0]}
    bare = dataclasses.replace(law.fit, **none, holdout=None)
    text = render(dataclasses.replace(inputs, laws=(dataclasses.replace(law, fit=bare),)))
    assert "They are shown at the largest measured budget" not in text
    assert "The law was fitted again without" not in text
    assert re.search(r"The best size grows as compute.*?measured budgets\.", text, re.DOTALL)


def test_names_keep_their_order_and_their_distance():
    placed = spread([0.5, 0.51, 0.1, 0.52], 0.05)
    assert placed == pytest.approx([0.46, 0.51, 0.1, 0.56])
    assert spread([], 0.1) == []


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [(1e3, 1e6, (1e3, 1e4, 1e5, 1e6)), (9, 55, (10, 20, 30, 50)),
     (1e-3, 1e9, (1e-3, 1.0, 1e3, 1e6, 1e9))],
)  # fmt: skip
def test_ticks_are_round(low, high, want):
    assert nice_logs(low, high, most=5) == pytest.approx(want)

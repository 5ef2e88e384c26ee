# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does one learning rate fit every size?
#
# Experiment 003 trained grids of sizes and learning rates, under muP and under the standard
# parametrization, at equal tokens and updates. If muP keeps its promise, the best rate of the
# smallest model is the best rate of the largest: tune small, train large.

# %%
# %matplotlib inline
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib import pyplot as plt

from windtunnel.findings import findings_of, read_records
from windtunnel.laws import fit
from windtunnel.report.figures.registry import finding_drawings, fit_drawings
from windtunnel.report.figures.style import RAMP_LIGHT, ramp_colour
from windtunnel.runs.forecast import as_table

pd.options.display.float_format = "{:.4g}".format
pd.options.display.max_colwidth = None


def tell(sentences):
    """Print, wrapped."""
    print(textwrap.fill(str(sentences), 100))


# %%
RECORDS = Path("../experiments/003-lr-transfer/records")

records = read_records(RECORDS)
sizes = np.unique([run.params for run in records.runs]).astype(float)
{experiment.name: len(records.of(experiment.name)) for experiment in records.config.experiments}

# %% [markdown]
# ## LR curves
#
# Mean loss of the seeds over the learning rate, a line per size. Under muP the lowest points
# should lie above each other; under the standard parametrization they should move to the left as
# width grows.

# %%
GRID = "width"
runs = records.frame(GRID)
curves = runs.pivot_table("loss", ["recipe.parametrization", "recipe.lr"], "params")
curves

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
for axes, (parametrization, grid) in zip(
    panels, curves.groupby(level="recipe.parametrization", sort=False), strict=False
):
    for place, (params, losses) in enumerate(grid.droplevel(0).items()):
        colour = ramp_colour(RAMP_LIGHT, place / max(grid.shape[1] - 1, 1))
        axes.plot(losses.index, losses, "o-", color=colour, label=f"{params:,} params")
    axes.set_xscale("log")
    axes.set_xlabel("Learning rate")
    axes.set_title(f"{parametrization}: loss (nats per token)", loc="left", fontsize=10)
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# ## The drift, with its interval
#
# A parabola through the neighbourhood of each minimum gives the best rate of every size, and a
# power law goes through those: lr* = k N^b. With b = 0 the rate transfers. Change
# `PARAMETRIZATION` or `GRID` above and run the cells again.

# %%
PARAMETRIZATION = "mup"

chosen = [run for run in records.of(GRID) if run.axes["recipe.parametrization"] == PARAMETRIZATION]
table = as_table(chosen, filters=(f"grid {GRID}", PARAMETRIZATION))
drift = fit(table, "lr-valley")
pd.DataFrame(
    {name: [value, *drift.intervals.get(name, (np.nan, np.nan))]
     for name, value in drift.coefficients.items()},
    index=["value", "low", "high"],
).T  # fmt: skip

# %%
for drawing in fit_drawings(drift, table):
    display(drawing.plain(sizes))

# %%
for warning in drift.warnings:
    tell(warning)

# %% [markdown]
# ## What the rate of a larger model would be
#
# Ten times the params of the largest one here. The interval is that of the law's answer, beyond
# what was measured, if the law goes on; the optimum is flat, so twice the rate costs far less
# than it seems.

# %%
rate = drift.predict(10 * sizes[-1])
tell(f"{rate.value:.3g} ({rate.low:.3g} to {rate.high:.3g}) at {10 * sizes[-1]:,.0f} params")
for warning in rate.warnings:
    tell(warning)

# %% [markdown]
# ## Everything the experiment found
#
# Along width, depth and length of training: the drift per doubling, and the loss that one shared
# rate gives up, beside the noise between seeds.

# %%
for finding in findings_of(records):
    tell(f"{finding.title}, {finding.experiment}. {finding.lead}")
    display(pd.DataFrame([each.row() for each in finding.quantities]).set_index("name"))
    for drawing in finding_drawings(finding):
        display(drawing.plain(sizes))
    for warning in finding.warnings:
        tell(f"Warning: {warning}")

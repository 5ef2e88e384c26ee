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
# # From finished runs to a forecast
#
# Experiment 008 trained six small models to many lengths. This notebook loads what it measured,
# looks at it, fits a law to it in a second or two, lets you change what is fitted, and ends in a
# forecast with an interval, written to a file that `windtunnel predict` and `windtunnel optimum`
# read.
#
# It needs no training, no GPU and no data: only the records that lie beside the experiment.

# %%
# %matplotlib inline
import json
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import display

from windtunnel.findings import read_records
from windtunnel.findings.scaling_law import data_model_laws
from windtunnel.laws import fit, optimum, predict
from windtunnel.laws.conditions import Condition
from windtunnel.report.figures.frontier import loss_against_compute
from windtunnel.report.figures.registry import fit_drawings
from windtunnel.report.figures.scaling import scaling_drawings as finding_drawings

pd.options.display.float_format = "{:.4g}".format
pd.options.display.max_colwidth = None


def tell(sentences):
    """Print, wrapped."""
    print(textwrap.fill(str(sentences), 100))


# %%
RECORDS = Path("../experiments/008-data-model-law/records")
EXPERIMENT = "scaling"

records = read_records(RECORDS)
runs = records.of(EXPERIMENT)
table = records.table(EXPERIMENT)
sizes = np.unique(table.params)
f"{len(runs)} finished, decayed runs of {len(sizes)} sizes and {len(table.trunk_labels)} trunks"

# %% [markdown]
# Your own study, if its sweep was mirrored to MLflow, loads by name from anywhere on this machine
# or from a tracking server:
#
# ```python
# from windtunnel.findings import load_records
# records = load_records("my-study")
# ```

# %% [markdown]
# ## Look before fitting
#
# Every size has a trunk that holds its peak learning rate, and branches that leave it and decay.
# Only the ends of the branches (dots) are fitted: a decay is worth more than most effects here.

# %%
columns = ["size", "params", "horizon", "tokens", "flops_6nd", "loss", "init_seed"]
records.frame(EXPERIMENT)[columns].sort_values(["params", "tokens"]).head(12)

# %%
loss_against_compute(records.curves, runs).plain(sizes)

# %% [markdown]
# ## Fit
#
# The law is L(N, D) = E + (A N^-alpha + B D^-beta)^k with a smooth misfit, N the non-embedding
# params and D the tokens. Three forms are weighted by how each forecasts the dearer runs from the
# cheaper ones. The intervals are of 90% and hold noise, misfit and form.

# %%
fitted = fit(table)


def coefficients(fitted):
    """The numbers of a fit, each with its interval, and the best D/N at the largest budget."""
    values = dict(fitted.coefficients)
    if fitted.has_optimum:
        values["ratio"] = optimum(fitted, flops=fitted.domain["flops"][1]).ratio.value
    unknown = (np.nan, np.nan)
    numbers = {
        name: [value, *fitted.intervals.get(name, unknown)] for name, value in values.items()
    }
    return pd.DataFrame.from_dict(numbers, "index", columns=["value", "low", "high"])


coefficients(fitted)

# %% [markdown]
# `ratio` is the best number of tokens per param at the largest budget, counted as 6ND. It is of law
# and misfit together, so the coefficients alone do not give it.

# %%
for drawing in fit_drawings(fitted, table):
    display(drawing.plain(sizes))

# %% [markdown]
# What the fit itself would have you know:

# %%
for warning in fitted.warnings:
    tell(warning)

# %% [markdown]
# ## Change what is fitted
#
# Leave rows out, try another law, predict other rows. Conditions are written as on the command
# line: `params > 5e4`, `tokens < 2e7`, `flops_exact >= 1e12`. `HOLD_OUT` is what a second fit
# leaves out and predicts; the coefficients use every row.

# %%
WHERE = ["params > 5e4"]
LAW = "chinchilla"  # L = E + A N^-alpha + B D^-beta alone
HOLD_OUT = "largest"

# %%
chosen = table
for text in WHERE:
    condition = Condition.parse(text)
    chosen = chosen.subset(condition.mask(chosen[condition.column]), why=text)
changed = fit(chosen, LAW, holdout=HOLD_OUT)
pd.concat({"all rows": coefficients(fitted), "changed": coefficients(changed)}, axis=1)

# %% [markdown]
# If an interval of one does not meet that of the other, the law does not hold over all of the
# rows, and a forecast beyond them should be trusted less than its interval says.

# %%
if changed.holdout is not None:
    held = changed.holdout
    words = "inside" if held.inside else "outside"
    tell(
        f"{held.what}: {held.rows} rows, off by {held.error:+.2%} on average, "
        f"{words} the {changed.level:.0%} interval of {held.low:+.2%} to {held.high:+.2%}"
    )

# %% [markdown]
# ## What the experiment found
#
# The same law per validation set, without its longest runs, and under both ways of counting
# FLOPs.

# %%
(finding,) = data_model_laws(records)
tell(finding.lead)
display(pd.DataFrame([each.row() for each in finding.quantities]).set_index("name"))
for warning in finding.warnings:
    tell(warning)

# %%
for drawing in finding_drawings(finding):
    display(drawing.plain(sizes))

# %% [markdown]
# ## Forecast
#
# A run of ten times the largest one's compute, at the best split. The interval is one of
# prediction: it holds the law's own uncertainty and the noise of a single new run. It does not
# hold the risk that the law bends where nobody has looked; the warnings say how far that is.

# %%
budget = 10 * fitted.domain["flops"][1]
best = optimum(fitted, flops=budget)
forecast = predict(fitted, params=best.params.value, tokens=best.tokens.value)
pd.DataFrame(
    {
        name: [found.value, found.low, found.high]
        for name, found in (
            ("params", best.params),
            ("tokens", best.tokens),
            ("tokens per param, 6ND", best.ratio),
            ("tokens per param, exact FLOPs", best.ratio_exact),
            ("loss (nats per token)", forecast),
        )
    },
    index=["value", "low", "high"],
).T

# %%
for warning in dict.fromkeys((*best.warnings, *forecast.warnings)):
    tell(warning)

# %% [markdown]
# ## Hand over
#
# The fit as JSON, with everything it was made from, and the forecast beside it. A shell goes on
# from there: `windtunnel predict FIT.json --params 4e6 --tokens 8e7`, `windtunnel optimum
# FIT.json --flops 1e15`. The same fit without a notebook is `windtunnel fit runs.csv --params
# params --tokens tokens --out fit.json`.

# %%
folder = Path(tempfile.mkdtemp())
fitted.to_json(folder / "fit.json")
handed_over = {
    "study": records.study,
    "law": fitted.law,
    "flops": budget,
    "params": best.params.value,
    "tokens": best.tokens.value,
    "loss": forecast.value,
    "interval": [forecast.low, forecast.high],
    "level": fitted.level,
    "warnings": [str(warning) for warning in forecast.warnings],
}
(folder / "forecast.json").write_text(json.dumps(handed_over, indent=1))
print(folder)
print(json.dumps(handed_over, indent=1))

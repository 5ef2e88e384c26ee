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
import pandas as pd

import windtunnel

pd.options.display.float_format = "{:.4g}".format

# %% [markdown]
# For a study of your own, change this cell and no other.

# %%
STUDY = "../experiments/003-lr-transfer/records"
GRID = "width"
PARAMETRIZATION = "mup"

study = windtunnel.open_study(STUDY)
study

# %% [markdown]
# ## LR curves
#
# Mean loss over the seeds for each learning rate, one column per size. Under muP the lowest losses
# should stand in one row; under the standard parametrization they should move up as width grows.

# %%
runs = study.runs_of(GRID)
runs.pivot_table("loss", ["recipe.parametrization", "recipe.lr"], "params").round(3)

# %%
study.plot(GRID)

# %% [markdown]
# ## The drift, with its interval
#
# A parabola through the neighbourhood of each minimum gives the best rate of every size, and a
# power law goes through those: lr* = k N^b. With b = 0 the rate transfers.

# %%
drift = windtunnel.fit(runs[runs["recipe.parametrization"] == PARAMETRIZATION], "lr-valley")
drift

# %%
drift.plot()

# %%
print(*drift.warnings, sep="\n\n")

# %% [markdown]
# ## What the rate of a larger model would be
#
# Ten times the parameters of the largest one here. The interval is that of the law's answer if the
# law goes on. The optimum is flat: twice the rate costs far less than it seems.

# %%
drift.predict(10 * runs.params.max())

# %% [markdown]
# ## Everything the experiment found
#
# Along width, depth and length of training: the drift per doubling, and the loss that one shared
# rate gives up, beside the noise between seeds.

# %%
study.show()

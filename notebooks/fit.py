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
# Experiment 008 trained six small models to many lengths. This notebook opens what it measured,
# fits a law to it in a second or two, lets you change what is fitted, and ends in a forecast with
# an interval. It needs no training, no GPU and no data.

# %%
import pandas as pd

import windtunnel

pd.options.display.float_format = "{:.4g}".format

# %% [markdown]
# For a study of your own, change this cell and no other: a study file, or the folder that
# `windtunnel records STUDY.yaml --out FOLDER` wrote.

# %%
STUDY = "../experiments/008-data-model-law/records"
EXPERIMENT = "scaling"

study = windtunnel.open_study(STUDY)
study

# %% [markdown]
# ## Look before fitting
#
# Every size has a trunk that holds its peak learning rate, and branches that leave it and decay.
# Only the ends of the branches (dots) are fitted: a decay is worth more than most effects here.

# %%
columns = ["size", "params", "horizon", "tokens", "flops_6nd", "loss", "init_seed"]
study.runs_of(EXPERIMENT)[columns].sort_values(["params", "tokens"]).head(8)

# %%
windtunnel.plots.loss_against_compute(study, EXPERIMENT)

# %% [markdown]
# ## Fit
#
# The law is L(N, D) = E + (A N^-alpha + B D^-beta)^k with a smooth misfit, N the non-embedding
# parameters and D the tokens. Three forms are weighted by how well each forecasts the more
# expensive runs from the cheaper ones. The 90% intervals include noise, misfit and form.

# %%
fitted = study.fit(experiment=EXPERIMENT)
fitted

# %%
fitted.plot()

# %% [markdown]
# What each warning means, and what to do about it:

# %%
print(*fitted.warnings, sep="\n\n")

# %% [markdown]
# ## Change what is fitted
#
# Leave rows out, try another law, hold out other rows. Conditions are written as on the command
# line: `tokens > 400k`, `params < 2M`, `flops_exact >= 1e12`.

# %%
changed = study.fit("chinchilla", experiment=EXPERIMENT, where="tokens > 400k")
changed

# %%
numbers = {
    name: pd.DataFrame(each.intervals, index=["low", "high"]).T
    for name, each in {"all rows": fitted, "changed": changed}.items()
}
pd.concat(numbers, axis=1)

# %% [markdown]
# If an interval of one does not meet that of the other, the law does not hold over all of the
# rows, and a forecast beyond them deserves less trust than its interval says.

# %% [markdown]
# ## What the experiment found
#
# The same law per validation set, without its longest runs, and under both ways of counting FLOPs.

# %%
study.show(EXPERIMENT)

# %% [markdown]
# ## Forecast
#
# The best split of ten times the largest run's compute, and of a hundred times. The interval of
# the loss is one of prediction: it holds the law's own uncertainty and the noise of a new run. It
# does not hold the risk that the law bends where nobody has looked; the warnings say how far away
# that is.

# %%
largest = fitted.domain["flops"][1]
best = fitted.optimum(10 * largest)
best

# %%
fitted.optimum([largest, 10 * largest, 100 * largest]).frame().set_index("flops").T

# %% [markdown]
# Any other run, here 2 million parameters on 20 to 80 tokens per parameter:

# %%
fitted.predict(params=2e6, tokens=[4e7, 8e7, 16e7]).frame()

# %% [markdown]
# The forecasts that the study itself wrote before it trained its largest size:

# %%
study.forecasts

# %% [markdown]
# ## Hand over
#
# `fitted.to_json("fit.json")` writes the fit with everything it was made from. A shell goes on
# from there: `windtunnel predict fit.json --params 4M --tokens 20N`, `windtunnel optimum fit.json
# --flops 1e15`.

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
# # What happens in the decay?
#
# At a constant rate the loss falls slowly, and it drops as soon as the rate decays. MiniCPM (arXiv
# 2404.06395, section 4.4) looked at gradients and steps through both phases. Experiment 007
# recorded the same six series on small models; this notebook looks at them.

# %%
import windtunnel

# %% [markdown]
# For a study of your own that records `dynamics`, change this cell and no other.

# %%
STUDY = "../experiments/007-training-dynamics/records"
SERIES = "cosine"  # or any other column of `study.dynamics`

study = windtunnel.open_study(STUDY)
study

# %% [markdown]
# ## The findings
#
# Which of the paper's six findings hold here, with intervals over seeds.

# %%
study.show()

# %% [markdown]
# ## One series at a time
#
# Every number is a mean over a bin of updates. `cosine` is that of two gradients in a row, `d1` and
# `d2` are the slope and its change along the last step.

# %%
bins = study.dynamics
bins.describe().T[["count", "mean", "min", "max"]]

# %%
stable, decay = bins[bins.kind == "trunk"], bins[bins.kind == "branch"]
look = {"x": "step", "y": SERIES, "s": 6, "figsize": (10, 4), "alpha": 0.6}
axes = stable.plot.scatter(**look, label="stable", title=f"{SERIES} against updates")
_ = decay.plot.scatter(**look, label="decay", color="#cc8400", ax=axes)

# %% [markdown]
# ## Does the step follow the rate?
#
# The largest change of a weight in each matrix, against the learning rate: in logs, a line of
# slope 1 would be a change in proportion to the rate. The slope with its interval is the exponent
# of change on rate in the table above.

# %%
changes = [name for name in decay if name.startswith("change:")]
points = decay.melt(["segment", "lr"], changes, value_name="change").dropna()
title = "Largest change of a weight in a window, in the decay"
_ = points.plot.scatter("lr", "change", s=6, logx=True, logy=True, title=title, figsize=(8, 5))

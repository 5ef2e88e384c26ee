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
# # What to do with a stable trunk
#
# One checkpoint, several ways to leave it: on other data, by another route, for longer. Experiments
# 011 to 015 asked which of them pays; this notebook looks at what they measured. All of it starts
# from the committed records: nothing is trained here.

# %%
import pandas as pd

import windtunnel

pd.options.display.float_format = "{:.4g}".format

# %% [markdown]
# ## What is shown
#
# For a study of your own, change the next cell and no other: `windtunnel.open_study("my.yaml")`.
# Each part is a study and the names of some of its experiments; `None` where there is no such part.

# %%
ADAPTATION = windtunnel.open_study("../experiments/012-domain-adaptation/records")
FORGETTING = ADAPTATION, ["mix"]
ROUTES = ADAPTATION, ["routes"]
LENGTHS = ADAPTATION, ["length"]
STAGES = windtunnel.open_study("../experiments/011-two-stage/records"), ["A", "B"]
CANDIDATES = windtunnel.open_study("../experiments/013-data-verification/records"), ["anneals"]
LONGER = windtunnel.open_study("../experiments/014-continuation/records"), ["twice", "four-times"]
MIXTURES = windtunnel.open_study("../experiments/015-mixture-law/records"), ["design"]

TARGET = {"docs": 1, "code": 1, "doctests": 1}  # how the mean weighs the validation sets
SHARES = {"docs": 0.5, "code": 0.3, "doctests": 0.2}  # a mixture to predict


# %%
def show(part):
    """The findings of some experiments of a study, if there is such a part."""
    if part is None:
        return print("This study has no such part.")
    study, experiments = part
    study.show(*experiments)


# %% [markdown]
# ## Gain against forgetting
#
# A trunk on docstrings decays on more and more code. The frontier: what code gains, and what docs
# lose.

# %%
show(FORGETTING)

# %% [markdown]
# ## By which route, and for how long?
#
# Decay at once, go on at the stable rate first, ramp the mixture in, or start again from a decayed
# model; then the same mixture for longer and longer.

# %%
show(ROUTES)

# %%
show(LENGTHS)

# %% [markdown]
# ## Two stages
#
# Supervised pairs in the decay, or after it? `doctests_conditional` is the loss of completions
# given their prompts.

# %%
show(STAGES)

# %% [markdown]
# ## Which data set is worth adding?
#
# Candidates ranked by short anneals from one trunk, and by training on each from the start.

# %%
show(CANDIDATES)

# %% [markdown]
# ## Longer than planned
#
# On from the stable checkpoint, or from the decayed end?

# %%
show(LONGER)

# %% [markdown]
# ## The mixture surface
#
# A law from mixture weights to each loss, over short anneals. Change `TARGET` and `SHARES` above
# to weigh the sets otherwise, and to ask for another mixture.

# %%
show(MIXTURES)

# %%
table = None
if MIXTURES:
    study, (design,) = MIXTURES
    fitted = study.fit("mixture", experiment=design, target=TARGET, bootstrap=300)
    best = {
        name: [share.value, share.low, share.high] for name, share in fitted.best.shares.items()
    }
    table = pd.DataFrame.from_dict(best, "index", columns=["share", "low", "high"])
table

# %%
table = None
if MIXTURES:
    forecast = {
        name: [each.loss.value, each.loss.low, each.loss.high]
        for name, each in fitted.predict(SHARES).items()
    }
    table = pd.DataFrame.from_dict(forecast, "index", columns=["loss", "low", "high"])
table

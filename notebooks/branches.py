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
# %matplotlib inline
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import display

from windtunnel.findings import findings_of, read_records
from windtunnel.laws.mixture import fit_mixture
from windtunnel.report.figures.registry import finding_drawings

pd.options.display.float_format = "{:.4g}".format
pd.options.display.max_colwidth = None


def tell(sentences):
    """Print, wrapped."""
    print(textwrap.fill(str(sentences), 100))


def show(part):
    """What the records of a study say of some of its experiments, in words and in pictures."""
    if part is None:
        return print("This study has no such part.")
    records, experiments = part
    sizes = np.unique([run.params for run in records.runs]).astype(float)
    for finding in findings_of(records):
        if finding.experiment not in experiments:
            continue
        tell(f"{finding.title}, {finding.experiment}. {finding.lead}")
        display(pd.DataFrame([each.row() for each in finding.quantities]).set_index("name"))
        for drawing in finding_drawings(finding):
            display(drawing.plain(sizes))
        for warning in finding.warnings:
            tell(f"Warning: {warning}")


# %% [markdown]
# ## What is shown
#
# For a study of your own, change the next cell and no other: `windtunnel records STUDY.yaml --out
# records` writes what `read_records(Path("records"))` reads. Each part is the records of a study
# and the names of some of its experiments; `None` where there is no such part.

# %%
EXPERIMENTS = Path("../experiments")


def committed(name):
    """The records that lie beside an experiment of this repository."""
    return read_records(EXPERIMENTS / name / "records")


ADAPTATION = committed("012-domain-adaptation")
FORGETTING = ADAPTATION, ["mix"]
ROUTES = ADAPTATION, ["routes"]
LENGTHS = ADAPTATION, ["length"]
STAGES = committed("011-two-stage"), ["A", "B"]
CANDIDATES = committed("013-data-verification"), ["anneals"]
LONGER = committed("014-continuation"), ["twice", "four-times"]
MIXTURES = committed("015-mixture-law"), ["design"]

TARGET = {"docs": 1, "code": 1, "doctests": 1}  # how the mean weighs the validation sets
SHARES = {"docs": 0.5, "code": 0.3, "doctests": 0.2}  # a mixture to predict

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
if MIXTURES:
    records, (design,) = MIXTURES
    fitted = fit_mixture(records.rows(design), target=TARGET, bootstrap=300)
    best = [
        {"source": source, "share": share.value, "low": share.low, "high": share.high}
        for source, share in fitted.best.shares.items()
    ]
    display(pd.DataFrame(best).set_index("source"))

# %%
if MIXTURES:
    forecast = [
        {"set": name, "loss": each.loss.value, "low": each.loss.low, "high": each.loss.high}
        for name, each in fitted.predict(SHARES).items()
    ]
    display(pd.DataFrame(forecast).set_index("set"))

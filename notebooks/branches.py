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
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import display

from windtunnel.findings import findings_of, read_records
from windtunnel.laws.mixture import fit_mixture
from windtunnel.report.figures.findings import drawings

EXPERIMENTS = Path("../experiments")

pd.options.display.float_format = "{:.4g}".format
pd.options.display.max_colwidth = None


def tell(sentences):
    """Print, wrapped."""
    print(textwrap.fill(str(sentences), 100))


def show(name, *experiments):
    """What the records of an experiment say of some of its parts, in words and in pictures."""
    records = read_records(EXPERIMENTS / name / "records")
    sizes = np.unique([row["params"] for row in records.runs]).astype(float)
    for finding in findings_of(records):
        if experiments and finding.experiment not in experiments:
            continue
        tell(f"{finding.title}, {finding.experiment}. {finding.lead}")
        display(pd.DataFrame([asdict(each) for each in finding.quantities]).set_index("name"))
        for drawing in drawings(finding):
            display(drawing.plain(sizes))
        for warning in finding.warnings:
            tell(f"Warning: {warning}")


# %% [markdown]
# ## Gain against forgetting
#
# A trunk on docstrings decays on more and more code. The frontier: what code gains, and what docs
# lose.

# %%
show("012-domain-adaptation", "mix")

# %% [markdown]
# ## By which route, and for how long?
#
# Decay at once, go on at the stable rate first, ramp the mixture in, or start again from a decayed
# model; then the same mixture for longer and longer.

# %%
show("012-domain-adaptation", "routes")

# %%
show("012-domain-adaptation", "length")

# %% [markdown]
# ## Two stages
#
# Supervised pairs in the decay, or after it? `doctests_conditional` is the loss of completions
# given their prompts.

# %%
show("011-two-stage")

# %% [markdown]
# ## Which data set is worth adding?
#
# Candidates ranked by short anneals from one trunk, and by training on each from the start.

# %%
show("013-data-verification", "anneals")

# %% [markdown]
# ## Longer than planned
#
# On from the stable checkpoint, or from the decayed end?

# %%
show("014-continuation")

# %% [markdown]
# ## The mixture surface
#
# A law from mixture weights to each loss, over short anneals. Change `TARGET` to weigh the sets
# otherwise.

# %%
show("015-mixture-law")

# %%
TARGET = {"docs": 1, "code": 1, "doctests": 1}

records = read_records(EXPERIMENTS / "015-mixture-law" / "records")
fitted = fit_mixture(records.of("design"), target=TARGET, bootstrap=300)
pd.DataFrame(
    [
        {"source": source, "share": share.value, "low": share.low, "high": share.high}
        for source, share in fitted.best.shares.items()
    ]
).set_index("source")

# %%
forecast = fitted.predict({"docs": 0.5, "code": 0.3, "doctests": 0.2})
pd.DataFrame(
    [{"set": name, "loss": each.loss.value, "low": each.loss.low, "high": each.loss.high}
     for name, each in forecast.items()]
).set_index("set")  # fmt: skip

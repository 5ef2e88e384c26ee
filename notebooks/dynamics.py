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
# With a constant rate the loss falls slowly, and drops as soon as the rate decays. MiniCPM (arXiv
# 2404.06395, section 4.4) looked at gradients and steps through both phases. Experiment 007
# recorded the same six series on small models; this notebook looks at them.

# %%
# %matplotlib inline
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib import pyplot as plt

from windtunnel.findings import findings_of, read_records
from windtunnel.report.figures.registry import finding_drawings

pd.options.display.float_format = "{:.4g}".format
pd.options.display.max_colwidth = None


def tell(sentences):
    """Print, wrapped."""
    print(textwrap.fill(str(sentences), 100))


# %%
RECORDS = Path("../experiments/007-training-dynamics/records")

records = read_records(RECORDS)
sizes = np.unique([run.params for run in records.runs]).astype(float)
f"{len(records.dynamics)} segments with dynamics, of {len(records.runs)} finished ones"

# %% [markdown]
# ## The findings
#
# Which of the paper's six findings hold here, with intervals over seeds.

# %%
for finding in findings_of(records):
    tell(f"{finding.title}, {finding.experiment}. {finding.lead}")
    display(pd.DataFrame([each.row() for each in finding.quantities]).set_index("name"))
    for drawing in finding_drawings(finding):
        display(drawing.plain(sizes))
    for warning in finding.warnings:
        tell(f"Warning: {warning}")

# %% [markdown]
# ## One series at a time
#
# Every number is a mean over a bin of updates. `SERIES` may be any name in the list below;
# `cosine` is that of two gradients in a row, `d1` and `d2` are the slope and its change along the
# last step.

# %%
sorted(records.dynamics[0].series)

# %%
SERIES = "cosine"

figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
for segment in records.dynamics:
    in_decay = segment.kind == "branch"
    middle = (segment.after + segment.step) / 2
    axes.plot(middle, segment.series[SERIES], color="#cc8400" if in_decay else "#2f6fb7",
              alpha=0.7, label="decay" if in_decay else "stable")  # fmt: skip
axes.set_xlabel("Update")
axes.set_title(SERIES, loc="left", fontsize=10)
marks, names = axes.get_legend_handles_labels()
unique = dict(zip(names, marks, strict=True))
axes.legend(unique.values(), unique.keys(), frameon=False)
plt.show()

# %% [markdown]
# ## Does the step follow the rate?
#
# The largest change of a weight in each matrix, against the learning rate: in logs, a line of
# slope 1 would be a change in proportion to the rate. The slope with its interval is the exponent
# of change on rate in the table above.

# %%
figure, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
for segment in records.dynamics:
    if segment.kind == "branch":
        for change in segment.changes.values():
            axes.plot(segment.series["lr"], change, ".", ms=3, color="#2f6fb7", alpha=0.5)
axes.set_xscale("log")
axes.set_yscale("log")
axes.set_xlabel("Learning rate")
axes.set_title("Largest change of a weight in a window", loc="left", fontsize=10)
plt.show()

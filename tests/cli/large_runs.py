"""A table of large runs as others have it, and a study whose runs follow a known law."""

import math

import numpy as np

from windtunnel.config import Branch
from windtunnel.laws import Chinchilla
from windtunnel.runs.imported import read_imported
from windtunnel.runs.study import open_study

LAW = Chinchilla(E=1.1, A=30.0, B=120.0, alpha=0.33, beta=0.34)
TABLE = """\
name,N,D,val_loss,lr,good
big-0,1.2e9,2.4e10,2.50,3e-4,true
big-1,1.2e9,4.8e10,2.41,3e-4,true
big-2,2.4e9,4.8e10,2.33,2e-4,false
"""
COLUMNS = ("--params", "N", "--tokens", "D", "--loss", "val_loss")
TAKE = (*COLUMNS, "--decayed", "true")


def taken(path):
    """Of a study file: what is measured of every imported run, by label."""
    return {name: run.measured for name, run in read_imported(open_study(path).folder).items()}


def fill(study):
    """Finish every segment of a study with losses of the law and a little noise; no training."""
    rng = np.random.default_rng(0)
    for planned in study.plan.segments:
        folder, segment = study.store.segment(planned.id), planned.segment
        folder.create(segment)
        is_branch = isinstance(segment, Branch)
        for step in (planned.end,) if is_branch else planned.forks:
            tokens = step * segment.recipe.batch_tokens
            loss = float(LAW(segment.model.params, tokens)) * math.exp(0.002 * rng.normal())
            loss *= 1.0 if is_branch else 1.03
            folder.add_measurement(step, {
                "words": {"nats_per_token": loss, "bits_per_byte": loss / math.log(2),
                          "tokens": 2048, "fingerprint": study.validation[0].fingerprint},
            })  # fmt: skip
        folder.finish({
            "segment": planned.id, "outcome": "finished", "reached": planned.end, "seconds": 1.0,
            "epochs": {"words": 0.5}, "execution": {}, "written": 1.8e9,
        })  # fmt: skip

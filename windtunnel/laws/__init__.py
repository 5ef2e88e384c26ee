"""Scaling laws fitted to finished runs: the formulas, the fit, its uncertainty, what it must beat.

>>> fitted = fit({"params": n, "tokens": d, "loss": l, "trunk": t})  # doctest: +SKIP
>>> optimum(fitted, flops=1e21).ratio  # doctest: +SKIP
>>> predict(fitted, params=2.4e9, tokens=1e12)  # doctest: +SKIP
"""

from windtunnel.laws.allocation import optimum
from windtunnel.laws.catalogue import LAWS, OF_CURVES, needs_of
from windtunnel.laws.caution import Caution
from windtunnel.laws.exact import ExactRule
from windtunnel.laws.fitting import fit, predict
from windtunnel.laws.forms.chinchilla import Allocation, Chinchilla
from windtunnel.laws.forms.data_constrained import DataConstrained
from windtunnel.laws.forms.law import Law
from windtunnel.laws.forms.power import ExpOffset, Power, PowerOffset
from windtunnel.laws.forms.power2 import Power2
from windtunnel.laws.forms.sigmoid import Sigmoid
from windtunnel.laws.interval import HoldOut, Influence, Interval, Optimum, Pull
from windtunnel.laws.naive import Contest, Score, compare, compute_line, nearest_size
from windtunnel.laws.result import Fit
from windtunnel.laws.table import Table

__all__ = [
    "LAWS",
    "OF_CURVES",
    "Allocation",
    "Caution",
    "Chinchilla",
    "Contest",
    "DataConstrained",
    "ExactRule",
    "ExpOffset",
    "Fit",
    "HoldOut",
    "Influence",
    "Interval",
    "Law",
    "Optimum",
    "Power",
    "Power2",
    "PowerOffset",
    "Pull",
    "Score",
    "Sigmoid",
    "Table",
    "compare",
    "compute_line",
    "fit",
    "nearest_size",
    "needs_of",
    "optimum",
    "predict",
]

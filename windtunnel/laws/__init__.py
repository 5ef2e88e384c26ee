"""Scaling laws fitted to finished runs: formulas, fits, intervals, and the baselines to beat.

>>> fitted = fit({"params": n, "tokens": d, "loss": l, "trunk": t})  # doctest: +SKIP
>>> optimum(fitted, flops=1e21).ratio  # doctest: +SKIP
>>> predict(fitted, params=2.4e9, tokens=1e12)  # doctest: +SKIP
"""

from windtunnel.errors import Diagnostic
from windtunnel.laws.allocation import optimum
from windtunnel.laws.baselines import Comparison, Score, compare, compute_line, nearest_size
from windtunnel.laws.breakeven import BreakEven, Lead, break_even
from windtunnel.laws.chinchilla import Allocation, Chinchilla, DataConstrained
from windtunnel.laws.evaluation import Drift, Evaluation, evaluate
from windtunnel.laws.exact import ExactRule
from windtunnel.laws.experts import Moe, MoeData
from windtunnel.laws.fitting import fit, predict
from windtunnel.laws.forms import Law
from windtunnel.laws.interval import HoldOut, Influence, Interval, LeaveOneOut, Optimum
from windtunnel.laws.powers import ExpOffset, Power, Power2, PowerOffset, Sigmoid
from windtunnel.laws.registry import LAWS, OF_CURVES, needs_of
from windtunnel.laws.result import Fit
from windtunnel.laws.table import Table
from windtunnel.laws.upcycling import Upcycling

__all__ = [
    "LAWS",
    "OF_CURVES",
    "Allocation",
    "BreakEven",
    "Chinchilla",
    "Comparison",
    "DataConstrained",
    "Diagnostic",
    "Drift",
    "Evaluation",
    "ExactRule",
    "ExpOffset",
    "Fit",
    "HoldOut",
    "Influence",
    "Interval",
    "Law",
    "Lead",
    "LeaveOneOut",
    "Moe",
    "MoeData",
    "Optimum",
    "Power",
    "Power2",
    "PowerOffset",
    "Score",
    "Sigmoid",
    "Table",
    "Upcycling",
    "break_even",
    "compare",
    "compute_line",
    "evaluate",
    "fit",
    "nearest_size",
    "needs_of",
    "optimum",
    "predict",
]

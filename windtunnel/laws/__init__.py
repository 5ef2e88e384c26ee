"""Scaling laws fitted to finished runs: the form, the fit, its uncertainty, and what it must beat.

>>> fit = fit_chinchilla(Runs(params=n, tokens=d, loss=l, trunk=t))  # doctest: +SKIP
>>> fit.optimum(1e18).ratio  # doctest: +SKIP
"""

from windtunnel.laws.chinchilla import Allocation, Chinchilla
from windtunnel.laws.fit import fit_chinchilla
from windtunnel.laws.interval import Domain, HoldOut, Influence, Interval, Optimum
from windtunnel.laws.naive import Contest, Score, compare, compute_line, nearest_size
from windtunnel.laws.result import Fit
from windtunnel.laws.runs import Runs

__all__ = [
    "Allocation",
    "Chinchilla",
    "Contest",
    "Domain",
    "Fit",
    "HoldOut",
    "Influence",
    "Interval",
    "Optimum",
    "Runs",
    "Score",
    "compare",
    "compute_line",
    "fit_chinchilla",
    "nearest_size",
]

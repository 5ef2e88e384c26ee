"""The mixture law: validation losses as a function of the decay's data, and the best mixture.

>>> fitted = fit_mixture(rows, target={"docs": 1, "code": 2})  # doctest: +SKIP
>>> fitted.best.mixture  # doctest: +SKIP
>>> fitted.predict({"docs": 0.6, "code": 0.4})["docs"].loss  # doctest: +SKIP
"""

from windtunnel.laws.mixture.best import LAW, Best, Forecast, Gain
from windtunnel.laws.mixture.fitting import fit_mixture
from windtunnel.laws.mixture.result import MixtureFit

__all__ = ["LAW", "Best", "Forecast", "Gain", "MixtureFit", "fit_mixture"]

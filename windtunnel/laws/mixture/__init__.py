"""A law of the decay's data: from shares of the sources to each validation loss, and the best mix.

>>> fitted = fit_mixture(rows, target={"docs": 1, "code": 2})  # doctest: +SKIP
>>> fitted.best.mixture  # doctest: +SKIP
>>> fitted.predict({"docs": 0.6, "code": 0.4})["docs"].loss  # doctest: +SKIP
"""

from windtunnel.laws.mixture.fitting import fit_mixture
from windtunnel.laws.mixture.result import LAW, Best, Forecast, Gain, MixtureFit

__all__ = ["LAW", "Best", "Forecast", "Gain", "MixtureFit", "fit_mixture"]

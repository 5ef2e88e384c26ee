"""Two-step laws: the first step finds optima of runs, the second fits a curve to them."""

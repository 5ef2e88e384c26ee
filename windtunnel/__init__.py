"""windtunnel: scaling-law experiments on small muP models.

A Study (one YAML file) expands into Segments: trunks that warm up and hold, branches that leave a
trunk and decay. Segments leave Measurements; a Fit of a law explains them.
"""

__version__ = "0.1.0"

"""The version of the package, apart from the public names, which load what they name."""

__version__ = "0.1.0"

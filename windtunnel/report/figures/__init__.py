"""Figures of the report, each a function from facts to a picture."""

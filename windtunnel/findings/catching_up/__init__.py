"""A small model that trains long against a larger one that trains short."""

"""A study over its store: plan, run, gather, track."""

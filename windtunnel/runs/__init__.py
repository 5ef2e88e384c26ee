"""A study over its store: plan, runs, results and costs."""

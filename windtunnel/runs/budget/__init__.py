"""Budgets and costs of a study: limits, cost, throughput, timing, utilisation."""

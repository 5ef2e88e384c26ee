"""Scheduling: which segments run, in which order, and on which workers."""

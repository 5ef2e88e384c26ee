"""Where and in which order segments run."""

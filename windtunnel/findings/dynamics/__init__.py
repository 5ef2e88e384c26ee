"""Gradients and steps through the stable phase and the decay."""

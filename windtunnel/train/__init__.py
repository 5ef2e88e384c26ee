"""Training one segment: state, step, loop, evaluation, checkpoints."""

"""Learning rates: transfer over size and length, the joint grid with batch, sensitivity."""

"""Compute-optimal tokens per parameter under both FLOP rules."""

from _drawing import draw

if __name__ == "__main__":
    draw("008-data-model-law", "ratio-by-compute", name="data-model-ratio")

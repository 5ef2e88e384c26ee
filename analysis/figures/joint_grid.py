"""Loss over batch and rate, with the rules."""

from _drawing import draw

if __name__ == "__main__":
    draw("004-joint-lr-batch", "joint-surface", name="joint-grid")

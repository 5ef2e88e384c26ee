"""Tokens to reach each loss, over batch, 48x3."""

from _drawing import draw

if __name__ == "__main__":
    draw("005-batch-size", "batch-levels-48x3", name="equal-loss-curves")

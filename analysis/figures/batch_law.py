"""The batch with the fewest tokens, against loss."""

from _drawing import draw

if __name__ == "__main__":
    draw("005-batch-size", "batch-law", name="batch-law")

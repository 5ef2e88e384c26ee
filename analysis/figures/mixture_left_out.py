"""Losses of mixtures left out: foretold against measured."""

from _drawing import draw

if __name__ == "__main__":
    draw("015-mixture-law", "mixture-left-out", name="mixture-left-out")

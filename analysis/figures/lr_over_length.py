"""Loss over rate for every length of training."""

from _drawing import draw

if __name__ == "__main__":
    draw("003-lr-transfer", "length-valleys", name="lr-over-length", experiment="length")

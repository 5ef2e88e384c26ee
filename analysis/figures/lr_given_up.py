"""Loss given up by the rate of the smallest width."""

from _drawing import draw

if __name__ == "__main__":
    draw("003-lr-transfer", "width-given-up", name="lr-given-up", experiment="width")

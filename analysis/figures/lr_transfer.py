"""Loss over raw and rescaled rate for every width, muP and standard."""

from _drawing import draw

if __name__ == "__main__":
    draw("003-lr-transfer", "width-valleys", name="lr-transfer", experiment="width")

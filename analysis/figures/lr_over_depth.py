"""Loss over rate for every depth."""

from _drawing import draw

if __name__ == "__main__":
    draw("003-lr-transfer", "depth-valleys", name="lr-over-depth", experiment="depth")

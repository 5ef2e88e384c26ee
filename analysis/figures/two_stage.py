"""Two stages: pairs in the decay or after it, on four validation sets."""

from _drawing import draw

if __name__ == "__main__":
    draw("011-two-stage", "ways-32x3-8000-steps", name="two-stage", experiment="B")

"""Loss over rate for decays of 10 and 20%, two lengths."""

from _drawing import draw

if __name__ == "__main__":
    draw("010-wsd-and-cosine-rates", "wsd-valleys", name="wsd-rates", experiment="wsd")

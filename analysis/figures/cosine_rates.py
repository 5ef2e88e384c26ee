"""Loss over rate for full cosines of two lengths."""

from _drawing import draw

if __name__ == "__main__":
    draw("010-wsd-and-cosine-rates", "cosine-valleys", name="cosine-rates", experiment="cosine")

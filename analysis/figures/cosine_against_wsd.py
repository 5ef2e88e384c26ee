"""Cosine minus WSD at every length."""

from _drawing import draw

if __name__ == "__main__":
    draw("006-wsd-against-cosine", "cosine-against-wsd", name="cosine-against-wsd")

"""Shapes of a decay of 10%."""

from _drawing import draw

if __name__ == "__main__":
    draw("006-wsd-against-cosine", "decay-shape", name="decay-shape")

"""A small model that trains long against one four times larger."""

from _drawing import draw

if __name__ == "__main__":
    draw("009-small-model-long", "catch-up-32x3", name="small-model-long")

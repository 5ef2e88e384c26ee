"""Changes of activations against width, muP and standard."""

from _drawing import draw

if __name__ == "__main__":
    draw("001-coordinate-check", "coordinate-check", name="coordinate-check")

"""Six series through stable phase and decay."""

from _drawing import draw

if __name__ == "__main__":
    draw("007-training-dynamics", "training-dynamics-64x3-to-6000-steps", name="training-dynamics")

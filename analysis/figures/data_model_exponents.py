"""Exponents and ratio with the long horizons and without."""

from _drawing import draw

if __name__ == "__main__":
    draw("008-data-model-law", "exponents-by-fit", name="data-model-exponents")

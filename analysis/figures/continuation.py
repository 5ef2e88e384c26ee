"""Four ways to train twice as long as planned."""

from _drawing import draw

if __name__ == "__main__":
    draw(
        "014-continuation",
        "ways-frontier-32x3-2000-steps",
        name="continuation",
        experiment="twice",
    )

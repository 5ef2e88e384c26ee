"""Loss against tokens of adaptation."""

from _drawing import draw

if __name__ == "__main__":
    draw(
        "012-domain-adaptation",
        "adaptation-code-32x3-4000-steps",
        name="domain-length",
        experiment="length",
    )

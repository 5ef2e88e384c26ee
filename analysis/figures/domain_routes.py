"""The same for five routes to half code."""

from _drawing import draw

if __name__ == "__main__":
    draw(
        "012-domain-adaptation",
        "ways-frontier-32x3-4000-steps",
        name="domain-routes",
        experiment="routes",
    )

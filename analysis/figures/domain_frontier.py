"""Forgetting on docs against gain on code, by the share of code in the decay."""

from _drawing import draw

if __name__ == "__main__":
    draw(
        "012-domain-adaptation",
        "ways-frontier-32x3-4000-steps",
        name="domain-frontier",
        experiment="mix",
    )

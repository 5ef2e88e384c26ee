"""Loss over rate for every width, both rules of weight decay."""

from _drawing import draw

if __name__ == "__main__":
    draw(
        "003-lr-transfer",
        "weight-decay-valleys",
        name="weight-decay-rules",
        experiment="weight-decay",
    )

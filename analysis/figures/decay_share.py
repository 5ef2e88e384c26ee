"""Loss above a full cosine against the share of the decay."""

from _drawing import draw

if __name__ == "__main__":
    draw("006-wsd-against-cosine", "decay-share", name="decay-share")

"""The mean loss over mixtures of docs, code and doctests in the decay."""

from _drawing import draw

if __name__ == "__main__":
    draw("015-mixture-law", "mixture", name="mixture-surface")

"""Candidate data sets after a short anneal against after training on each."""

from _drawing import draw

if __name__ == "__main__":
    draw(
        "013-data-verification",
        "ranking-anneals-against-scratch-32x3",
        name="data-ranking",
        experiment="anneals",
    )

"""Loss over rate with QK-norm and without."""

from _drawing import draw

if __name__ == "__main__":
    draw("002-hyperparameter-search", "qk-norm-sensitivity", name="qk-norm", experiment="qk-norm")

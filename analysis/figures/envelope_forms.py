"""Loss of the small model against compute, two forms."""

from _drawing import draw

if __name__ == "__main__":
    draw("009-small-model-long", "approach-32x3", name="envelope-forms")

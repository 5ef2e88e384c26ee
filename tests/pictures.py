"""Pages with empty pictures."""

import pytest

from windtunnel.report.figures.drawing import Drawing, Picture


def draw_nothing(patched: pytest.MonkeyPatch) -> None:
    """Leave every picture of a page empty."""

    def empty(drawing, suffix="", *colours, captioned=True):
        name = f"{drawing.name}-{suffix}" if suffix else drawing.name
        return Picture(name=name, alt=drawing.alt, wide="<svg></svg>", narrow="<svg></svg>")

    patched.setattr(Drawing, "picture", empty)

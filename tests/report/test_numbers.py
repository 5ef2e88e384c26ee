import math

import pytest

from windtunnel.report import formatting


@pytest.mark.parametrize(
    ("value", "want"),
    [(1.3e15, "1.3 × 10¹⁵"), (9.96e14, "1.0 × 10¹⁵"), (-2e-7, "−2.0 × 10⁻⁷"), (0, "0"),
     (math.inf, "∞"), (math.nan, "–"), (None, "–")],
)  # fmt: skip
def test_scientific(value, want):
    assert formatting.scientific(value).replace("\u00a0", " ") == want


@pytest.mark.parametrize(
    ("value", "want"),
    [(142_345, "142k"), (3_154_000, "3.15M"), (2.4e9, "2.40B"), (999_600, "1.00M"), (512, "512"),
     (1000, "1.00k"), (31_600, "31.6k"), (12.3, "12.3"), (None, "–")],
)  # fmt: skip
def test_count(value, want):
    assert formatting.count(value) == want


@pytest.mark.parametrize(
    ("value", "want"),
    [(18.44, "18.4"), (0.03124, "0.0312"), (1260.4, "1,260"), (126.4, "126"), (-0.098, "−0.0980"),
     (406400, "4.06 × 10⁵"), (0, "0"), (9.996, "10.00"), (-math.inf, "−∞")],
)  # fmt: skip
def test_significant(value, want):
    assert formatting.significant(value).replace("\u00a0", " ") == want


@pytest.mark.parametrize(
    ("seconds", "want"),
    [(4.2, "4.2 s"), (42, "42 s"), (725, "12 min 5 s"), (11_520, "3 h 12 min"),
     (3599.7, "1 h 0 min"), (187_300, "2 d 4 h")],
)  # fmt: skip
def test_duration(seconds, want):
    assert formatting.duration(seconds) == want


def test_spans():
    assert formatting.span(16.24, 30.1) == "16.2 to 30.1"
    assert formatting.span(math.nan, math.nan) == "no interval"
    assert formatting.span(20.0, math.inf) == "20.0 to ∞"
    assert formatting.span(1e6, 2e6, formatting.count) == "1.00M to 2.00M"


def test_sentences_of_the_library_are_typeset():
    raw = "flops = 1.26e+18 is 1.00 decades above (1.2e-05): was -0.51% to +0.57%, a-1 stays"
    want = "flops = 1.26 × 10¹⁸ is 1.00 decades above (1.2 × 10⁻⁵): was −0.51% to +0.57%, a-1 stays"
    assert formatting.typeset(raw).replace("\u00a0", " ") == want

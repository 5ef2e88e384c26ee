import math

import pytest
from unrun import made_run

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


@pytest.mark.parametrize(
    ("value", "want"), [(400_000, "400k"), (1.6e6, "1.6M"), (2e9, "2B"), (512, "512")]
)
def test_round_numbers_are_short(value, want):
    assert formatting.short(value) == want


@pytest.mark.parametrize(
    ("sentence", "want"),
    [("to 400000 tokens", "to 400k tokens"), ("1.6e+06 tokens", "1.6M tokens"),
     ("batch of 1024 tokens", "batch of 1024 tokens"), ("3.19e5 params", "319k params"),
     ("v400000 tokens", "v400000 tokens")],
)  # fmt: skip
def test_tokens_and_params_are_counted(sentence, want):
    assert formatting.typeset(sentence) == want


def test_runs_are_named_by_size_seed_and_length():
    run = made_run(width=64, depth=3, init_seed=1, tokens=1_600_000, lr=0.01425, loss=1.54141)
    assert formatting.run_name(run) == "64×3, seed 1, 1.6M tokens"
    assert formatting.run_tip(run) == (
        "64×3, seed 1, 1.6M tokens, learning rate 0.0143: loss 1.5414"
    )
    assert formatting.place_name("64x3", 0, None) == "64×3, seed 0"


def test_sentences_of_the_library_are_typeset():
    raw = "flops = 1.26e+18 is 1.00 decades above (1.2e-05): was -0.51% to +0.57%, a-1 stays"
    want = "flops = 1.26 × 10¹⁸ is 1.00 decades above (1.2 × 10⁻⁵): was −0.51% to +0.57%, a-1 stays"
    assert formatting.typeset(raw).replace("\u00a0", " ") == want

"""Conditions are read by a grammar and never evaluated; masks follow tables worked by hand."""

import math

import numpy as np
import pytest
from law_errors import refuses

from windtunnel.errors import ConfigError
from windtunnel.laws.conditions import Condition, widen

NUMBERS = np.array([1.0, 2.0, 3.0, math.nan])
WORDS = np.array(["a", "b", "c d", ""])


@pytest.mark.parametrize(
    ("text", "column", "operator", "value"),
    [
        ("params<=1e9", "params", "<=", 1e9),
        ("params >= 3.5e6", "params", ">=", 3.5e6),
        ("seed=1", "seed", "==", 1.0),
        ("seed == -1", "seed", "==", -1.0),
        ("loss!=.5", "loss", "!=", 0.5),
        ("Training FLOP>=1e21", "Training FLOP", ">=", 1e21),
        ("Model Size < 1e9", "Model Size", "<", 1e9),
        ("loss in nats > 3", "loss in nats", ">", 3.0),
        ('"a<b" > 3', "a<b", ">", 3.0),
        ("family = 'x <= 3'", "family", "==", "x <= 3"),
        ("family == mixed words", "family", "==", "mixed words"),
        ("decayed = True", "decayed", "==", True),
        ("decayed=false", "decayed", "==", False),
        ("decayed='false'", "decayed", "==", "false"),
        ("family in a,b", "family", "in", ("a", "b")),
        ("family in (a, 'b,c')", "family", "in", ("a", "b,c")),
        ("width in 64, 128", "width", "in", (64.0, 128.0)),
        ("family in 'a<b',c", "family", "in", ("a<b", "c")),
        ("n = 1_000", "n", "==", "1_000"),  # not a number here, whatever Python says
        ("n = 1e999", "n", "==", "1e999"),  # no float holds it
        ("run = __import__('os')", "run", "==", "__import__('os')"),
    ],
)
def test_parse_and_spell(text, column, operator, value):
    found = Condition.parse(text)
    assert found == Condition(column, operator, value)
    assert type(found.value) is type(value)
    assert Condition.parse(str(found)) == found


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (Condition("Training FLOP", ">=", 1e21), "Training FLOP >= 1e+21"),
        (Condition("params", "<", 1234567.0), "params < 1234567.0"),
        (Condition("family", "in", ("a", "b,c")), 'family in a, "b,c"'),
        (Condition("flag", "==", True), "flag == true"),
        (Condition("size", "==", "70"), 'size == "70"'),
    ],
)
def test_str(condition, said):
    assert str(condition) == said
    assert Condition.parse(said) == condition


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("params", "incomplete-condition"),
        ("'params<3'", "incomplete-condition"),
        ("", "incomplete-condition"),
        ("<3", "incomplete-condition"),
        ("params<", "incomplete-condition"),
        ("family in a,,b", "incomplete-condition"),
        ("family in a,", "incomplete-condition"),
        ("family=''", "empty"),
        ("family='a", "open-quote"),
        ("family in 'a'b,c", "open-quote"),
        ("1e18<flops<1e21", "several-comparisons"),
        ("flops=<1e21", "several-comparisons"),
        ("family=a\"b'c", "both-quotes"),
    ],
)
def test_what_cannot_be_read_is_told_with_an_example(text, code):
    with pytest.raises(ConfigError, match="Training FLOP>=1e21") as refused:
        Condition.parse(text)
    assert refused.value.code == code
    assert refused.value.values["condition"] == text


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("x<2", [1, 0, 0, 0]),
        ("x<=2", [1, 1, 0, 0]),
        ("x>2", [0, 0, 1, 0]),
        ("x>=2", [0, 1, 1, 0]),
        ("x=2", [0, 1, 0, 0]),
        ("x in 1,3", [1, 0, 1, 0]),
        ("x=true", [1, 0, 0, 0]),
        ("x!=2", [1, 0, 1, 1]),  # the missing one is not known to be 2
    ],
)
def test_masks_of_numbers(text, want):
    mask = Condition.parse(text).mask(NUMBERS)
    assert mask.dtype == bool
    assert mask.tolist() == [bool(each) for each in want]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("x=a", [1, 0, 0, 0]),
        ("x='c d'", [0, 0, 1, 0]),
        ("x in a, c d", [1, 0, 1, 0]),
        ("x!=a", [0, 1, 1, 1]),
        ("x=A", [0, 0, 0, 0]),
    ],
)
def test_masks_of_text(text, want):
    assert Condition.parse(text).mask(WORDS).tolist() == [bool(each) for each in want]


@pytest.mark.parametrize("text", ["x=true", "x=True", "x=1", "x!=false", "x!=0"])
@pytest.mark.parametrize(
    "values", [[True, False], [1, 0], ["True", "False"], ["true", "FALSE"], ["1", "0"]]
)
def test_a_truth_is_written_in_any_way(text, values):
    assert Condition.parse(text).mask(np.array(values)).tolist() == [True, False]


def test_a_number_is_found_among_words_however_it_is_spelled():
    mask = Condition.parse("size=70").mask(np.array(["70", "70.0", "70m", ""]))
    assert mask.tolist() == [True, True, False, False]


def test_objects_with_none():
    mask = Condition.parse("x=a").mask(np.array(["a", None, math.nan], object))
    assert mask.tolist() == [True, False, False]
    assert Condition.parse("x=nan").mask(np.array(["a", math.nan], object)).sum() == 0


def test_the_wrong_kind_of_value_is_told():
    with refuses("not-a-number", ConfigError, column="x", value="2,5"):
        Condition.parse("x<2,5").mask(NUMBERS)
    with refuses("not-a-number", ConfigError, column="x", value="a"):
        Condition.parse("x in 1,a").mask(NUMBERS)
    with refuses("text-without-order", ConfigError, column="x", operator="<"):
        Condition.parse("x<3").mask(WORDS)


def test_widen_holds_out_whole_trunks():
    trunk = np.array(["t1", "t1", "t2", "t2", "t3"])
    mask, cut = widen([False, True, True, True, False], trunk)
    assert mask.tolist() == [True, True, True, True, False]
    assert cut == ("t1",)
    mask, cut = widen([False, False, True, True, False], trunk)
    assert mask.tolist() == [False, False, True, True, False]
    assert cut == ()
    assert widen([False] * 5, trunk)[0].sum() == 0

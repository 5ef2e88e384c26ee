"""The models of a family: key and value heads that grow with the width, or stay."""

import pytest
from pydantic import ValidationError

from windtunnel.config import Size
from windtunnel.config.errors import first_refusal
from windtunnel.config.model import ModelFamily

SIZES = (Size(64, 2), Size(128, 2), Size(256, 2))


def family(**fields):
    return ModelFamily(sizes=SIZES, head_dim=16, context=64, **fields)


def kv_heads(of):
    return [of.spec(size, vocab_size=256).kv_heads for size in SIZES]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, [4, 8, 16]), ({"heads_per_kv": 4}, [1, 2, 4]), ({"kv_heads": 2}, [2, 2, 2])],
)
def test_kv_heads_of_every_size(fields, expected):
    assert kv_heads(family(**fields)) == expected


def test_a_model_does_not_know_how_its_kv_heads_were_told():
    size = SIZES[0]
    told, derived = family(kv_heads=2), family(heads_per_kv=2)
    assert told.spec(size, vocab_size=256) == derived.spec(size, vocab_size=256)


@pytest.mark.parametrize(
    ("fields", "code", "place"),
    [
        ({"kv_heads": 2, "heads_per_kv": 2}, "contradiction", ("kv_heads",)),
        ({"kv_heads": 3}, "not-a-multiple", ("sizes", 0)),
    ],
)
def test_kv_heads_that_do_not_fit_are_refused(fields, code, place):
    with pytest.raises(ValidationError) as refused:
        family(**fields)
    refusal = first_refusal(refused.value)
    assert (refusal.code, refusal.place) == (code, place)

import math

import pytest

from windtunnel.errors import ConfigError
from windtunnel.schedule import Decay, PowerHold, Schedule


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 0.25), (3, 1.0), (99, 1.0), (100, 1.0), (125, 0.5), (199, 0.0501)]
)
def test_one_minus_sqrt_to_zero(step, factor):
    decay = Decay(start=100, end=200, shape="one_minus_sqrt", final_factor=0.0)
    expected = factor if step != 199 else 1 - math.sqrt(0.99)
    assert Schedule(warmup=4, decay=decay)(step) == pytest.approx(expected)


@pytest.mark.parametrize("shape", ["exponential", "linear", "one_minus_sqrt", "cosine"])
def test_every_shape_goes_from_peak_to_a_tenth(shape):
    decay = Decay(start=100, end=200, shape=shape)
    assert decay(100) == pytest.approx(1.0)
    assert decay(200) == pytest.approx(0.1)
    factors = [decay(step) for step in range(100, 200)]
    assert factors == sorted(factors, reverse=True)


def test_exponential_half_life_is_decay_over_3_32():
    decay = Decay(start=0, end=332)
    assert decay(100) == pytest.approx(0.5, abs=1e-3)


def test_cosine_is_the_raised_form():
    # MiniCPM's appendix prints 0.9 cos + 0.1, which would be negative at the end.
    decay = Decay(start=0, end=100, shape="cosine")
    assert decay(50) == pytest.approx(0.55)


def test_without_decay_there_is_no_end():
    assert Schedule(warmup=10)(10**9) == 1.0


@pytest.mark.parametrize(
    ("final", "shape"), [(0.0, "exponential"), (1.1, "linear"), (-1, "cosine")]
)
def test_refuses_a_final_factor_that_no_decay_has(final, shape):
    with pytest.raises(ConfigError) as caught:
        Decay(start=0, end=10, shape=shape, final_factor=final)
    assert caught.value.code == "out-of-range"
    assert caught.value.values == {"key": "final_factor", "value": final, "shape": shape}


def test_refuses_a_decay_without_updates():
    with pytest.raises(ConfigError) as caught:
        Decay(start=10, end=10)
    assert (caught.value.code, caught.value.values) == ("empty-decay", {"start": 10, "end": 10})


def test_a_falling_rate_is_a_power_of_tokens_from_where_it_begins():
    hold = PowerHold(power=-0.27, tokens=6400, batch=64)
    schedule = Schedule(warmup=10, hold=hold)
    assert [schedule(step) for step in (4, 9, 99)] == [0.5, 1.0, 1.0]
    assert schedule(199) == pytest.approx(2**-0.27, abs=1e-12)
    assert schedule(99_999) == pytest.approx(1000**-0.27, abs=1e-12)
    assert schedule(100) == pytest.approx((101 / 100) ** -0.27, abs=1e-12)


def test_a_falling_rate_counts_tokens_through_a_change_of_batch():
    hold = PowerHold(power=-0.5, tokens=1000, batch=10)
    doubled = hold.with_batch(20, since=300)
    assert doubled(299) == pytest.approx(hold(299), abs=1e-12)
    assert doubled(349) == pytest.approx(hold(399), abs=1e-12)  # 4,000 tokens either way
    again = doubled.with_batch(10, since=350)
    assert again(449) == pytest.approx(hold(499), abs=1e-12)

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windtunnel.data.stream import TokenFile, TrainStream, ramp_pattern, ranks, row_counts

CONTEXT = 4
ROWS = {"a": 50, "b": 31, "c": 23}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Row r of source s opens with 1000 * s + CONTEXT * r."""
    folder = tmp_path_factory.mktemp("ramp")
    for number, (name, rows) in enumerate(ROWS.items()):
        (1000 * number + np.arange(rows * CONTEXT + 1)).astype("<u2").tofile(folder / name)
    return tuple(TokenFile(name=name, path=folder / name, dtype="<u2", weight=0.0) for name in ROWS)


def weighted(files, **weights):
    return tuple(replace(file, weight=weights.get(file.name, 0.0)) for file in files)


def source_of(rows):
    return ["abc"[number] for number in rows[:, 0] // 1000]


def test_a_ramp_by_hand():
    # Shares of b at rows 0 to 3: 1/8, 3/8, 5/8, 7/8. Credit of b after each: 1/8, 1/2 (a tie: the
    # first source has it), 9/8 less the row it gets, then 1/8 + 7/8 less another.
    assert ramp_pattern([1, 0], [0, 1], 4).tolist() == [0, 0, 1, 1]
    assert ramp_pattern([1], [1], 3).tolist() == [0, 0, 0]
    assert ranks(np.array([0, 0, 1, 0, 1])).tolist() == [0, 1, 0, 2, 1]
    assert row_counts([1.0, 0.0, 2.0], ["a", "b", "c"]) == (333, 0, 667)


@pytest.mark.medium
@given(
    before=st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any),
    after=st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any),
    rows=st.integers(1, 300),
)
def test_a_ramp_goes_in_a_straight_line(before, after, rows):
    pattern = ramp_pattern(before, after, rows)
    progress = (np.arange(rows) + 0.5) / rows
    for source in range(3):
        old, new = before[source] / sum(before), after[source] / sum(after)
        due = np.cumsum((1 - progress) * old + progress * new)
        assert np.abs(np.cumsum(pattern == source) - due).max() < 1.5
    scaled = ramp_pattern([7 * count for count in before], [3 * count for count in after], rows)
    assert np.array_equal(scaled, pattern)


def test_counts_over_the_ramp_and_after_it(files):
    """From a alone to b alone: half of the ramp's rows are each one's."""
    stream = TrainStream(
        weighted(files, b=1), CONTEXT, first=7, begun={"a": 7}, ramp=20, before={"a": 2.0}
    )
    path = source_of(stream.rows(7, 40, data_seed=0))
    assert Counter(path[:20]) == {"a": 10, "b": 10}
    assert Counter(path[:5])["a"] >= 4
    assert Counter(path[15:20])["b"] >= 4
    assert set(path[20:]) == {"b"}
    for row in range(7, 47):
        read = Counter(path[: row - 7])
        assert stream.read(row) == {"a": 7 + read["a"], "b": read["b"]}
    assert stream.epochs(47) == {"a": 17 / 50, "b": 30 / 31}


weights = st.fixed_dictionaries({name: st.integers(0, 5) for name in ROWS}).filter(
    lambda each: any(each.values())
)


@pytest.mark.medium
@given(
    before=weights,
    after=weights,
    first=st.integers(0, 60),
    ramp=st.integers(1, 80),
)
def test_every_source_goes_on_where_the_path_left_it(files, before, after, first, ramp):
    """Each source's rows are those of its own shuffle in order, whatever the mixtures are."""
    trunk = TrainStream(weighted(files, **before), CONTEXT)
    turned = TrainStream(
        weighted(files, **after),
        CONTEXT,
        first=first,
        begun=trunk.read(first),
        ramp=ramp,
        before=before,
    )
    own = turned.rows(first, 200, data_seed=9)
    path = np.concatenate([trunk.rows(0, first, data_seed=9), own])
    sources = np.array(source_of(path))
    for name, length in ROWS.items():
        read = path[sources == name]
        alone = TrainStream(weighted(files, **{name: 1}), CONTEXT)
        assert np.array_equal(read, alone.rows(0, len(read), data_seed=9))
        for row in (first, first + ramp // 2, first + ramp, first + 200):
            expected = int((sources[:row] == name).sum())
            assert turned.read(row).get(name, 0) == expected
            assert turned.epochs(row).get(name, 0.0) == pytest.approx(expected / length)


@pytest.mark.medium
@given(cuts=st.lists(st.integers(0, 120), max_size=5), ramp=st.integers(1, 80))
def test_any_cut_of_a_ramp_gives_the_same_rows(files, cuts, ramp):
    before = {"a": 2, "c": 1}
    stream = TrainStream(weighted(files, a=1, b=1), CONTEXT, first=30, ramp=ramp, before=before)
    whole = stream.rows(30, 120, data_seed=1)
    for start, end in reversed(list(itertools.pairwise([0, *sorted(cuts), 120]))):
        part = stream.rows(30 + start, end - start, data_seed=1)
        assert np.array_equal(part, whole[start:end])


def test_weights_in_another_scale_are_the_same_ramp(files):
    one, other = (
        TrainStream(weighted(files, a=a, b=b), CONTEXT, ramp=60, before=before)
        for a, b, before in ((1, 2, {"c": 1}), (0.1, 0.2, {"c": 0.7}))
    )
    assert np.array_equal(one.rows(0, 90, data_seed=0), other.rows(0, 90, data_seed=0))


def test_a_stream_without_a_ramp_does_not_look_at_what_was_before(files):
    plain = TrainStream(weighted(files, a=1, b=2), CONTEXT)
    same = TrainStream(weighted(files, a=1, b=2), CONTEXT, ramp=0, before={"c": 1.0})
    assert np.array_equal(plain.rows(0, 90, data_seed=0), same.rows(0, 90, data_seed=0))
    assert same.read(90) == plain.read(90) == {"a": 30, "b": 60}


def test_a_ramp_from_an_unknown_source_is_refused(files, refuses):
    with refuses("unknown-source", source="x"):
        TrainStream(weighted(files, a=1), CONTEXT, ramp=5, before={"x": 1.0, "b": 1.0})


def test_epochs_go_on_from_what_was_passed_at_another_context(files):
    # 0.3 epochs of a and 1.5 of c were passed; in rows of this length the path begins anew.
    stream = TrainStream(
        weighted(files, a=1, b=1),
        CONTEXT,
        first=10,
        begun={"a": 50, "c": 46},
        passed={"a": 0.3, "c": 1.5},
    )
    assert stream.epochs(10) == {"a": 0.3, "c": 1.5}  # nothing of b has been read
    assert stream.epochs(30) == {"a": 0.3 + 10 / 50, "b": 10 / 31, "c": 1.5}
    rows = stream.rows(10, 20, data_seed=4)
    second_epoch = TrainStream(weighted(files, a=1), CONTEXT).rows(50, 10, data_seed=4)
    assert np.array_equal(rows[np.array(source_of(rows)) == "a"], second_epoch)

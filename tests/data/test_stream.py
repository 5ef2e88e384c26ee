import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windtunnel.data.stream import (
    TokenFile,
    TrainStream,
    interleave,
    permute,
    row_counts,
    shuffle_keys,
)

CONTEXT = 8


@pytest.fixture
def make_stream(tmp_path):
    def make(context=CONTEXT, **sources):
        """Each source `name=(rows, weight)`; token = 1000 * source + its place."""
        files = []
        for number, (name, (rows, weight)) in enumerate(sources.items()):
            path = tmp_path / f"{name}.bin"
            (10_000 * number + np.arange(rows * context + 1)).astype("<u2").tofile(path)
            files.append(TokenFile(name=name, path=path, dtype="<u2", weight=weight))
        make.files = tuple(files)
        return TrainStream(make.files, context)

    return make


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**40))
def test_permutation_is_a_bijection(size, seed):
    shuffled = permute(np.arange(size), size=size, keys=shuffle_keys(seed, 0, "a"))
    assert np.array_equal(np.sort(shuffled), np.arange(size))


def test_permutation_of_large_sizes_is_injective_and_in_range():
    for size in (2**40 + 1, 10**12):
        shuffled = permute(np.arange(100_000), size=size, keys=shuffle_keys(1))
        assert len(np.unique(shuffled)) == 100_000
        assert 0 <= shuffled.min() < shuffled.max() < size


def test_permutation_looks_random():
    size = 100_000
    shuffled = permute(np.arange(size), size=size, keys=shuffle_keys(3))
    assert abs(np.corrcoef(np.arange(size), shuffled)[0, 1]) < 4 / np.sqrt(size)
    assert abs(np.corrcoef(shuffled[:-1], shuffled[1:])[0, 1]) < 4 / np.sqrt(size)
    # A random permutation has one fixed point on average (Poisson).
    assert (shuffled == np.arange(size)).sum() < 10
    # Uniform neighbour distances: a gap below 1% of the size has probability 2%.
    near = (np.abs(np.diff(shuffled)) < size // 100).mean()
    assert near == pytest.approx(0.02, abs=0.002)


def test_permutation_keys_are_pinned():
    # A change here changes the data order of every stored trunk.
    assert permute(np.arange(6), size=1000, keys=shuffle_keys(0, 0, "docs")).tolist() == GOLDEN


GOLDEN = [718, 965, 344, 152, 396, 331]


def test_a_row_is_context_tokens_and_the_next(make_stream):
    rows = make_stream(a=(50, 1.0)).rows(0, 50, data_seed=0)
    assert rows.dtype == np.int64
    assert rows.shape == (50, CONTEXT + 1)
    assert (np.diff(rows, axis=1) == 1).all()
    assert sorted(rows[:, 0]) == list(range(0, 50 * CONTEXT, CONTEXT))


@given(cuts=st.lists(st.integers(0, 400), max_size=6), seed=st.integers(0, 3))
def test_any_cut_of_a_range_gives_the_same_rows(tmp_path_factory, cuts, seed):
    folder = tmp_path_factory.mktemp("cut")
    files = []
    for name, rows, weight in (("a", 37, 0.6), ("b", 11, 0.4)):
        np.arange(rows * CONTEXT + 1, dtype="<u2").tofile(folder / name)
        files.append(TokenFile(name=name, path=folder / name, dtype="<u2", weight=weight))
    stream = TrainStream(tuple(files), CONTEXT)
    whole = stream.rows(0, 400, data_seed=seed)
    edges = [0, *sorted(cuts), 400]
    for first, last in reversed(list(itertools.pairwise(edges))):
        assert np.array_equal(stream.rows(first, last - first, data_seed=seed), whole[first:last])


def test_each_epoch_visits_each_row_once_in_another_order(make_stream):
    stream = make_stream(a=(97, 1.0))
    first, second = (stream.rows(97 * e, 97, data_seed=5)[:, 0] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(0, 97 * CONTEXT, CONTEXT))
    assert (first == second).mean() < 0.1
    assert stream.epochs(97) == {"a": 1.0}
    assert stream.epochs(194) == {"a": 2.0}


def test_seeds_give_other_orders(make_stream):
    stream = make_stream(a=(97, 1.0))
    one, two = (stream.rows(0, 97, data_seed=seed)[:, 0] for seed in (0, 1))
    assert (one == two).mean() < 0.1


def test_mixture_shares_are_exact_and_interleaved(make_stream):
    stream = make_stream(a=(100, 0.7), b=(100, 0.3))
    is_b = stream.rows(0, 1000, data_seed=0)[:, 0] >= 10_000
    assert is_b.sum() == 300
    # Every ten rows hold three of b: the mixture is even at the scale of a batch.
    assert (is_b.reshape(100, 10).sum(axis=1) == 3).all()
    assert stream.epochs(1000) == {"a": 7.0, "b": 3.0}
    assert stream.epochs(10) == {"a": 0.07, "b": 0.03}


def test_every_source_is_visited_evenly_in_a_mixture(make_stream):
    rows = make_stream(a=(7, 1.0), b=(13, 2.0)).rows(0, 39, data_seed=2)[:, 0]
    assert sorted(rows[rows >= 10_000]) == [10_000 + CONTEXT * i for i in range(13) for _ in "xx"]


@pytest.mark.parametrize(
    ("weights", "want"),
    [
        ([1.0], (1,)),
        ([2.0, 2.0], (1, 1)),
        ([0.7, 0.3], (7, 3)),
        ([1.0, 1.0, 1.0], (334, 333, 333)),
        ([5.0, 3.0, 2.0], (5, 3, 2)),
    ],
)
def test_row_counts(weights, want):
    assert row_counts(weights, ["x"] * len(weights)) == want
    pattern = interleave(want)
    assert np.bincount(pattern).tolist() == list(want)
    # At no place is a source more than one row ahead of or behind its share.
    for source, count in enumerate(want):
        given_rows = np.cumsum(pattern == source)
        due = np.arange(1, len(pattern) + 1) * count / len(pattern)
        assert np.abs(given_rows - due).max() <= 1


def test_a_share_too_small_to_serve_is_refused(refuses):
    with refuses("share-too-small", source="b", weight=1e-4):
        row_counts([1.0, 1e-4], ["a", "b"])


def test_order_in_the_study_decides_nothing(make_stream, tmp_path):
    make_stream(a=(50, 0.7), b=(60, 0.3))
    a, b = (
        TokenFile(name=name, path=tmp_path / f"{name}.bin", dtype="<u2", weight=weight)
        for name, weight in (("a", 0.7), ("b", 0.3))
    )
    one, other = (
        TrainStream(files, CONTEXT).rows(0, 99, data_seed=1) for files in ((a, b), (b, a))
    )
    assert np.array_equal(one, other)


def test_a_source_too_short_for_a_row_is_refused(make_stream, tmp_path, refuses):
    make_stream(a=(1, 1.0))  # nine tokens: exactly one row
    file = TokenFile(name="a", path=tmp_path / "a.bin", dtype="<u2", weight=1.0)
    with refuses("too-few-tokens", source="a", tokens=9, context=9):
        TrainStream((file,), CONTEXT + 1)


def test_rows_are_fast(make_stream):
    stream = make_stream(context=8, a=(1000, 0.7), b=(1000, 0.3))
    best = min(_seconds(stream) for _ in range(20))
    # Measured 0.1 to 0.5 ms; the limit is for what becomes slower by an order.
    assert best < 5e-3


def _seconds(stream):
    start = time.perf_counter()
    for first in range(0, 640, 64):
        stream.rows(first, 64, data_seed=0)
    return (time.perf_counter() - start) / 10


def test_a_mixture_goes_on_where_the_path_left_every_source(make_stream):
    """Rows of a source are read once each, in one shuffled order, whatever the mixture is."""
    trunk = make_stream(a=(40, 3), b=(30, 1))
    tables = {name: (number, rows) for number, (name, rows) in enumerate((("a", 40), ("b", 30)))}
    files = make_stream.files
    first = 16  # 12 of a, 4 of b
    begun = trunk.read(first)
    assert begun == {"a": 12, "b": 4}
    turned = TrainStream(
        tuple(replace(file, weight={"a": 1, "b": 3}[file.name]) for file in files),
        CONTEXT,
        first=first,
        begun=begun,
    )
    path = np.concatenate([trunk.rows(0, first, data_seed=5), turned.rows(first, 24, data_seed=5)])
    assert turned.read(first) == begun
    assert turned.read(first + 24) == {"a": 12 + 6, "b": 4 + 18}
    assert turned.epochs(first + 24) == {"a": 18 / 40, "b": 22 / 30}
    for name, (number, rows) in tables.items():
        read = [row for row in path[:, 0].tolist() if row // 10_000 == number]
        alone = make_stream(**{name: (rows, 1)}) if number == 0 else None
        assert len(set(read)) == len(read) == {"a": 18, "b": 22}[name]  # none twice
        if alone is not None:
            assert read == alone.rows(0, len(read), data_seed=5)[:, 0].tolist()


def test_a_mixture_that_stays_is_the_same_stream(make_stream):
    whole = make_stream(a=(40, 3), b=(30, 2))
    for first in (1, 7, 23, 141):
        again = TrainStream(make_stream.files, CONTEXT, first=first, begun=whole.read(first))
        expected = whole.rows(first, 60, data_seed=2)
        assert np.array_equal(again.rows(first, 60, data_seed=2), expected)
        assert again.epochs(first + 60) == whole.epochs(first + 60)


def test_a_source_that_is_left_and_one_without_weight(make_stream):
    trunk = make_stream(a=(40, 1), b=(30, 0))
    assert trunk.read(8) == {"a": 8}
    assert set(trunk.rows(0, 40, data_seed=0)[:, 0] // 10_000) == {0}
    files = tuple(replace(f, weight={"a": 0, "b": 1}[f.name]) for f in make_stream.files)
    turned = TrainStream(files, CONTEXT, first=8, begun=trunk.read(8))
    assert set(turned.rows(8, 30, data_seed=0)[:, 0] // 10_000) == {1}
    assert turned.epochs(8 + 15) == {"a": 8 / 40, "b": 15 / 30}

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windtunnel.data.pairs import COUNTS, OPENS, PackedRows, pack
from windtunnel.data.stream import TokenFile, TrainStream

# Tokens of prompt and of completion, its separator among them.
EXAMPLES = [(2, 2), (1, 2), (6, 2), (2, 5), (1, 1)]  # 4 + 3 + 8 + 7 + 2 tokens


def mask_of(examples):
    parts = [np.repeat([0, COUNTS], lengths) for lengths in examples]
    for part in parts:
        part[0] |= OPENS
    return np.concatenate(parts).astype("u1")


def write(folder, examples):
    """Token i is 100 + i, but for separators, which are 0."""
    ids = 100 + np.arange(sum(map(sum, examples)))
    ids[np.cumsum([sum(lengths) for lengths in examples]) - 1] = 0
    ids.astype("<u2").tofile(folder / "train.bin")
    mask_of(examples).tofile(folder / "train.mask.bin")
    return folder / "train.bin", folder / "train.mask.bin"


def table(folder, context, *, completion):
    tokens, mask = write(folder, EXAMPLES)
    return PackedRows(
        tokens, mask, dtype="<u2", context=context, completion=completion, where="data source 'x'"
    )


@pytest.mark.parametrize(
    ("context", "first", "held", "cut", "left_out"),
    [
        # 4 + 3 fill a row of 7; of the 8 one token is cut, and one of its answer is left; 7 fits.
        (6, [0, 7, 15, 22], [7, 7, 7, 2], 1, 0),
        # 4 + 3 are too many for 6; a prompt of 6 leaves no answer; 7 is cut.
        (5, [0, 4, 15, 22], [4, 3, 6, 2], 1, 1),
        (23, [0], [24], 0, 0),
        (22, [0, 22], [22, 2], 0, 0),
        (100, [0], [24], 0, 0),
    ],
)
def test_packing_by_hand(context, first, held, cut, left_out):
    packing = pack(mask_of(EXAMPLES), context)
    assert packing.first.tolist() == first
    assert packing.held.tolist() == held
    assert (packing.examples, packing.cut, packing.left_out) == (5, cut, left_out)


def test_rows_are_marked_where_nothing_is_counted(tmp_path):
    full = table(tmp_path, 5, completion=False)
    # The row's examples count but for the token that opens it; what follows them is read only.
    assert full[np.array([1, 0])].tolist() == [
        [104, 105, 0, ~107, ~108, ~109],
        [100, 101, 102, 0, ~104, ~105],
    ]
    assert full[np.array([2])].tolist() == [[115, 116, 117, 118, 119, 120]]
    # Past the end of the file stand separators.
    assert full[np.array([3])].tolist() == [[122, 0, ~0, ~0, ~0, ~0]]
    only = table(tmp_path, 5, completion=True)
    assert len(only) == len(full) == 4
    assert only[np.arange(4)].tolist() == [
        [100, ~101, 102, 0, ~104, ~105],
        [104, 105, 0, ~107, ~108, ~109],
        [115, ~116, 117, 118, 119, 120],
        [122, 0, ~0, ~0, ~0, ~0],
    ]


def test_the_second_prompt_of_a_row_is_marked(tmp_path):
    rows = table(tmp_path, 6, completion=True)[np.array([0])]
    assert rows.tolist() == [[100, ~101, 102, 0, ~104, 105, 0]]
    rows = table(tmp_path, 6, completion=False)[np.array([0])]
    assert rows.tolist() == [[100, 101, 102, 0, 104, 105, 0]]


def test_prompts_that_fill_every_row_are_refused(tmp_path, refuses):
    tokens, _ = write(tmp_path, [(9, 2), (8, 1)])
    file = TokenFile(name="x", path=tokens, dtype="<u2", weight=1.0, paired=True)
    assert file.row_count(8) == 1
    assert file.row_count(7) == 0
    with refuses("prompts-fill-rows", context=7):
        TrainStream((file,), 7)


def one_by_one(examples, row):
    """The rows, the cut and the left out, as a reader with a pencil packs them."""
    rows, room, place, cut, left_out = [], 0, 0, 0, 0
    for prompt, completion in examples:
        size = prompt + completion
        if size > row:
            room = 0
            # Position 0 is not predicted, so an empty prompt needs a second token.
            if max(prompt, 1) < row:
                rows.append([place, row])
                cut += 1
            else:
                left_out += 1
        elif size <= room:
            rows[-1][1] += size
            room -= size
        else:
            rows.append([place, size])
            room = row - size
        place += size
    return rows, cut, left_out


@given(
    examples=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9)), min_size=1, max_size=40),
    context=st.integers(1, 30),
)
def test_packing_against_a_pencil(tmp_path_factory, examples, context):
    mask, row = mask_of(examples), context + 1
    packing = pack(mask, context)
    rows, cut, left_out = one_by_one(examples, row)
    assert [[*pair] for pair in zip(packing.first, packing.held, strict=True)] == rows
    assert (packing.examples, packing.cut, packing.left_out) == (len(examples), cut, left_out)
    if not rows:
        return
    folder = tmp_path_factory.mktemp("packed")
    paths = write(folder, examples)
    tokens = np.fromfile(paths[0], "<u2").astype(int)
    full, only = (
        PackedRows(*paths, dtype="<u2", context=context, completion=completion, where="x")[
            np.arange(len(rows))
        ]
        for completion in (False, True)
    )
    for (first, held), all_of, answers in zip(rows, full, only, strict=True):
        inside = np.arange(row) < held
        read = np.pad(tokens[first : first + row], (0, row))[:row]
        assert np.array_equal(np.where(all_of < 0, ~all_of, all_of), read)
        assert np.array_equal(np.where(answers < 0, ~answers, answers), read)
        assert np.array_equal(all_of[1:] >= 0, inside[1:])
        counted = np.pad(mask[first : first + row] & COUNTS, (0, row))[:row].astype(bool) & inside
        assert np.array_equal(answers[1:] >= 0, counted[1:])
        assert (all_of[0], answers[0]) == (read[0], read[0])


def test_both_objectives_read_the_same_rows_in_the_same_order(tmp_path):
    rng = np.random.default_rng(0)
    examples = [tuple(rng.integers(1, 9, size=2)) for _ in range(300)]
    tokens, _ = write(tmp_path, examples)
    np.arange(12 * 16 + 1, dtype="<u2").tofile(tmp_path / "plain.bin")
    files = (
        TokenFile(name="sft", path=tokens, dtype="<u2", weight=3.0, paired=True),
        TokenFile(name="plain", path=tmp_path / "plain.bin", dtype="<u2", weight=1.0),
    )
    full, only = (TrainStream(files, 16, completion=completion) for completion in (False, True))
    one, other = (stream.rows(0, 400, data_seed=3) for stream in (full, only))
    assert np.array_equal(np.where(one < 0, ~one, one), np.where(other < 0, ~other, other))
    assert ((other < 0) >= (one < 0)).all()
    assert (other < 0).sum() > (one < 0).sum() > 0
    plain = one[:, -1] - one[:, 0] == 16
    assert (one[plain] >= 0).all()
    assert plain.sum() >= 100
    # An epoch of the pairs has every row of its table once.
    rows = files[0].row_count(16)
    firsts = [row[0] for row in TrainStream(files[:1], 16).rows(0, rows, data_seed=1)]
    assert sorted(firsts) == sorted(files[0].rows(16)[np.arange(rows)][:, 0])

import time

import numpy as np
import pytest

from windtunnel.data import DataSpec, Source, builtin, prepare
from windtunnel.data.builtin import COMPLETION_BYTES, PROMPT_BYTES, Doctests
from windtunnel.data.pairs import Pair

SESSION = """Add numbers.

Examples
--------
>>> x = 1
>>> x + 1
2

Text between.

>>> def f(a):
...     return [a,
...             a]
...
>>> f(x)
[1,
 1]
>>> f(
"""


def test_a_session_by_hand():
    told = ">>> x + 1\n2\n>>> def f(a):\n...     return [a,\n...             a]\n"
    assert list(Doctests().of(SESSION.removesuffix(">>> f(\n"))) == [
        Pair(b">>> x = 1\n>>> x + 1\n", b"2"),
        Pair((told + ">>> f(x)\n").encode(), b"[1,\n 1]"),  # the first line is beyond 80 bytes
    ]


@pytest.mark.parametrize(
    "output",
    [
        "",
        "...",
        "<BLANKLINE>",
        "Traceback (most recent call last):\n    ...\nValueError: no",
        "<object at 0x7f3a2b1c>",
        "bell \x07",
        "x" * (COMPLETION_BYTES + 1),
    ],
)
def test_outputs_that_teach_nothing_are_left_out(output):
    docstring = f">>> a\n{output}\n\n>>> b\n1\n"
    assert [pair.completion for pair in Doctests().of(docstring)] == [b"1"]


@pytest.mark.parametrize("output", ["0xff", "1 ... 9", "a\n<BLANKLINE>\nb", "x" * 46, "π"])
def test_outputs_that_tell_something_stay(output):
    assert [pair.completion.decode() for pair in Doctests().of(f">>> a\n{output}\n")] == [output]


def test_prompts_are_cut_at_a_line_and_end_with_their_statement():
    long = "".join(f">>> {i:036}\n{i}\n" for i in range(9))  # lines of 41 and of 2 bytes
    (*_, last) = Doctests().of(long)
    # The last statement and the one before with its output would be 2 * 41 + 2 bytes.
    assert last.prompt.decode() == "7\n" + long.splitlines(True)[16]
    assert len(last.prompt) == 43 <= PROMPT_BYTES < 84
    exact = f">>> {'a' * 75}\n"  # 80 bytes
    assert [len(pair.prompt) for pair in Doctests().of(exact + "1\n")] == [PROMPT_BYTES]
    assert not list(Doctests().of(f">>> {'a' * 76}\n1\n"))  # a statement is not cut


def test_a_statement_with_its_output_is_given_once():
    doctests = Doctests()
    assert len(list(doctests.of(">>> x = 1\n>>> x\n1\n"))) == 1
    assert not list(doctests.of(">>> y = 2\n>>> x\n1\n"))
    assert len(list(doctests.of(">>> x\n2\n>>> x\n1\n"))) == 1


def test_docstrings_that_are_no_session_give_nothing():
    assert not list(Doctests().of("Nothing."))
    assert not list(Doctests().of("    >>> x\n  1\n"))  # a ValueError of doctest's


def modules(count):
    """Files of a package: sessions and prose, some of it in two files."""
    for i in range(count):
        told = f'"""Words {i} of module number {i} and what it is for, {i}.\n\n'
        shared = f">>> shared({i // 3})\n{i // 3}{i // 3}\n"
        session = "".join(f">>> own_{i}_{k}(1)\n'result {i} {k}'\n" for k in range(2))
        yield f'{told}>>> a_{i} = {i}\n{session}\n{shared}"""\nx = {i}\n' * (1 + i % 2)


@pytest.mark.parametrize("fraction", [0.02, 0.3])
def test_a_file_stands_on_the_side_it_has_in_docs(monkeypatch, tmp_path, fraction):
    monkeypatch.setattr(builtin, "_sources", lambda packages, suffixes: modules(60))
    sources = (
        Source(name="docs", path="builtin:docs"),
        Source(name="sessions", path="builtin:doctests", weight=0.0),
    )
    dataset = prepare(DataSpec(sources=sources, validation_fraction=fraction), root=tmp_path)
    texts = {
        (source.name, side): np.fromfile(source.folder / f"{side}.bin", "<u2")
        .astype("u1")
        .tobytes()
        for source in dataset.sources
        for side in ("train", "validation")
    }
    found = 0
    for i in range(60):
        word, own = f"module number {i} ".encode(), f"own_{i}_1(1)".encode()
        sides = {side for (name, side), text in texts.items() if name == "docs" and word in text}
        mine = {side for (name, side), text in texts.items() if name == "sessions" and own in text}
        assert sides == mine
        assert len(mine) <= 1
        found += mine == {"validation"}
    assert found >= 1
    assert [each.name for each in dataset.validation] == [
        "docs",
        "sessions",
        "sessions_conditional",
    ]


@pytest.mark.slow
def test_builtin_sizes_and_the_sides_of_docs(builtins, tmp_path):
    start = time.perf_counter()
    source = Source(name="doctests", path="builtin:doctests")
    dataset = prepare(DataSpec(sources=(source,)), root=tmp_path)
    # The promise is 20 s on an idle core; a shared machine gets three times that.
    assert time.perf_counter() - start < 60
    whole, conditional = dataset.validation
    assert dataset.sources[0].documents >= 15_000
    assert whole.documents >= 150
    assert whole.contamination <= 0.05
    assert conditional.tokens >= 2_000
    docs = next(each for each in builtins.dataset.sources if each.name == "docs")
    tokens, mask = (np.fromfile(whole.folder / f"validation{end}", dtype) for end, dtype in FILES)
    told = {
        side: np.fromfile(docs.folder / f"{side}.bin", "<u2").astype("u1").tobytes()
        for side in ("train", "validation")
    }
    seen = dict.fromkeys(told, 0)
    for first, last in zip(*_spans(mask), strict=True):
        answer = int((mask[first:last] & 1).argmax())
        part = tokens[first : last - 1].astype("u1").tobytes()
        statement = part[part.rfind(b">>> ", 0, answer) :]
        for side, text in told.items():
            seen[side] += statement in text or statement.replace(b"\n", b"\n    ") in text
    assert seen["validation"] >= 0.8 * whole.documents
    assert seen["train"] <= 0.03 * whole.documents


FILES = ((".bin", "<u2"), (".mask.bin", "u1"))


def _spans(mask):
    starts = np.flatnonzero(mask & 2)
    return starts, [*starts[1:], len(mask)]

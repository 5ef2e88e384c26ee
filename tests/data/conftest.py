import os
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from windtunnel.data import Dataset, DataSpec, Source, prepare
from windtunnel.errors import DataError

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdlmnrst"]


def random_prose(seed: int, *, words: int) -> str:
    """Random sentences: no two seeds share a 64-byte window but by chance."""
    rng = np.random.default_rng(seed)
    return " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=words)) + "."


@pytest.fixture
def refuses():
    """A context in which an error of a code, and with some values, must be raised."""

    @contextmanager
    def check(code, error=DataError, **values):
        with pytest.raises(error) as caught:
            yield caught
        assert caught.value.code == code, caught.value
        assert {name: caught.value.values.get(name) for name in values} == values

    return check


@pytest.fixture
def prose():
    return random_prose


@pytest.fixture
def paragraphs():
    """One random paragraph for each seed, as bytes."""
    return lambda *seeds: "\n\n".join(random_prose(seed, words=20) for seed in seeds).encode()


@pytest.fixture
def corpus(tmp_path):
    """A folder of 200 text files of three paragraphs each."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i in range(200):
        text = "\n\n".join(random_prose(1000 * i + part, words=40) for part in range(3))
        (folder / f"{i:03}.txt").write_text(text)
    return folder


@pytest.fixture
def text_spec(corpus):
    return DataSpec(sources=(Source(name="text", path=str(corpus)),), validation_fraction=0.1)


@dataclass
class Builtins:
    dataset: Dataset
    processor_seconds: float
    spec: DataSpec


@pytest.fixture(scope="session")
def builtins(tmp_path_factory):
    spec = DataSpec(
        sources=(
            Source(name="docs", path="builtin:docs", weight=0.7),
            Source(name="code", path="builtin:code", weight=0.3),
        )
    )
    start = _processor_seconds()
    dataset = prepare(spec, root=tmp_path_factory.mktemp("builtins"))
    return Builtins(dataset, _processor_seconds() - start, spec)


def _processor_seconds():
    """Of this process and of those that it has waited for; other work takes none of them."""
    return sum(os.times()[:4])

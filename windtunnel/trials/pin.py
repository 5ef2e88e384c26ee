"""What a study's data was asked to be when its stream was made, and what is asked otherwise now.

Losses on two streams cannot be compared, so a study keeps the first that it was given.
"""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from windtunnel.spec import StudyConfig
from windtunnel.spec.data import NEAR_DUPLICATE_SHARE, SourceConfig


def data_asked(config: StudyConfig) -> dict[str, Any]:
    """The part of the data section that decides the stream."""
    asked = config.data.model_dump(mode="json")
    for source in asked["sources"]:
        if source["pairs"] is None:
            del source["pairs"]  # so that pins from before there were pairs are found
    if config.data.dedup_share == NEAR_DUPLICATE_SHARE:
        del asked["dedup"]  # likewise
    asked["validation"] = {"fraction": asked["validation"]["fraction"]}
    return asked


def differences(pinned: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """Of which source or key something else is asked than was pinned: what it was, what it is."""
    were, are = (_by_label(each["sources"]) for each in (pinned, asked))
    kept = [label for label in were if label in are]
    # A file's name is its source's label: of those that changed, the first is taken for the first.
    others = ([each for each in one if each not in kept] for one in (were, are))
    for old, new in (*zip(kept, kept, strict=True), *zip_longest(*others)):
        if old is None or new is None:
            yield f"source {old or new!r} is {'new' if old is None else 'gone'}"
        else:
            yield from _fields(were[old], are[new], of=f"source {old!r}: ")
    if were.keys() == are.keys() and list(were) != list(are):
        yield f"the sources were in the order {', '.join(were)}, are {', '.join(are)}"
    rest = ({k: v for k, v in each.items() if k != "sources"} for each in (pinned, asked))
    yield from _fields(*rest)


def _by_label(sources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {SourceConfig.model_construct(**source).label: source for source in sources}


def _fields(was: Mapping[str, Any], now: Mapping[str, Any], *, of: str = "") -> Iterator[str]:
    for key in dict.fromkeys((*was, *now)):
        old, new = was.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _fields(old, new, of=f"{of}{key}.")
        elif old != new:
            yield f"{of}{key} was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "not set"
        case list():
            return f"[{', '.join(map(str, value))}]"
    return str(value).removesuffix(".0")

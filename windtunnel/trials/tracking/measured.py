"""Which measurements of a segment are mirrored: tags, as many as their length needs.

The first has the name that it always had; one that an older version let MLflow cut ends in a part
of an entry, which counts as not mirrored.
"""

from collections.abc import Iterable, Mapping

from windtunnel.trials.tracking.limits import LONGEST_VALUE

TAG = "windtunnel.measured"


def entry(step: int, name: str) -> str:
    """A measurement of one validation set after one update."""
    return f"{step}:{name}"


def known(tags: Mapping[str, str]) -> set[str]:
    """The entries of a run's tags."""
    return {each for text in _parts(tags) for each in text.split(",")}


def with_more(tags: Mapping[str, str], more: Iterable[str]) -> dict[str, str]:
    """The tags to set, so that these entries are known too."""
    parts = _parts(tags)
    found: dict[str, str] = {}
    number, text = max(len(parts) - 1, 0), parts[-1] if parts else ""
    for each in more:
        if text and len(text) + 1 + len(each) > LONGEST_VALUE:
            number, text = number + 1, ""
        text = f"{text},{each}" if text else each
        found[_name(number)] = text
    return found


def _parts(tags: Mapping[str, str]) -> list[str]:
    found: list[str] = []
    while (text := tags.get(_name(len(found)))) is not None:
        found.append(text)
    return found


def _name(number: int) -> str:
    return TAG if number == 0 else f"{TAG}.{number}"

"""What a hand, a crash or a careless tool does to a JSON document: systematic and random edits."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

WRONG = (
    None, True, False, "text", "", "nan", "inf", "-inf", "1.5", 0, -1, 1.5, -2.5, 10**30, -(10**30),
    10**400, 1e308, 1e-320, float("nan"), float("inf"), float("-inf"), [], [None], [[]], {},
    {"a": None}, {"": {"b": [1]}}, [1, 2, 3],
)  # fmt: skip
"""Values that stand where another is expected."""

Place = tuple[str | int, ...]


def places(document: Any, *, most: int = 3) -> list[Place]:
    """Every place in a document; of a long list the first `most` - 1 entries and the last."""
    found: list[Place] = [()]
    if isinstance(document, dict):
        for key, value in document.items():
            found += [(key, *rest) for rest in places(value, most=most)]
    elif isinstance(document, list):
        shown = range(len(document))
        for at in shown if len(shown) <= most else (*shown[: most - 1], shown[-1]):
            found += [(at, *rest) for rest in places(document[at], most=most)]
    return found


def edited(document: Any, place: Place, change: Any) -> Any:
    """A copy with `change(parent, key)` applied to what holds `place`."""
    holder = {"": copy.deepcopy(document)}
    parent, key = holder, ""
    for step in place:
        parent, key = parent[key], step
    change(parent, key)
    return holder[""]


def structural(document: Any) -> Iterator[tuple[str, Any]]:
    """Each place of a document, changed in each of the ways that a hand would: (what, document)."""
    for place in places(document):
        name = ".".join(map(str, place)) or "the document"
        for value in WRONG:
            yield f"{name} = {value!r:.40}", edited(document, place, _set(value))
        yield f"{name} in a list", edited(document, place, _wrap(lambda v: [v]))
        yield f"{name} in an object", edited(document, place, _wrap(lambda v: {"value": v}))
        yield f"{name} as text", edited(document, place, _wrap(str))
        yield f"{name} nested", edited(document, place, _wrap(_nested))
        if place:
            yield f"{name} removed", edited(document, place, _remove)
        if place and isinstance(place[-1], str):
            yield f"{name} renamed", edited(document, place, _rename)
            yield f"{name} in capitals", edited(document, place, _capitals)
        if place and isinstance(place[-1], int):
            yield f"{name} twice", edited(document, place, _repeat)


def texts(text: str) -> Iterator[tuple[str, bytes]]:
    """Other bytes than a writer of JSON leaves: (what, bytes)."""
    whole = text.encode()
    for share in (0, 0.01, 0.3, 0.5, 0.9, 0.99):
        yield f"truncated at {share:.0%}", whole[: int(share * len(whole))]
    yield "a last byte lost", whole.rstrip()[:-1]
    yield "twice", whole + whole
    yield "UTF-16", text.encode("utf-16")
    yield "with a byte order mark", b"\xef\xbb\xbf" + whole
    yield "Latin-1", whole + "\xe9".encode("latin-1")
    yield "zeros", bytes(len(whole))
    yield "compressed", bytes.fromhex("1f8b08000000000000ff") + whole[:50]
    yield "nested too deep", b"[" * 100_000 + b"]" * 100_000
    yield "objects nested too deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield "a number too long", b'{"a": ' + b"9" * 10_000 + b"}"
    yield "a comment", b"// mine\n" + whole
    yield "a comma too many", whole.rstrip()[:-1] + b",}"
    yield "single quotes", whole.replace(b'"', b"'")
    yield "Windows line ends", whole.replace(b"\n", b"\r\n")
    yield "a list", b"[" + whole + b"]"


def flipped(text: str, rng: random.Random) -> tuple[str, bytes]:
    """One to three bytes changed, lost or put in at random."""
    found = bytearray(text.encode())
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(max(len(found), 1))
        match rng.randrange(3):
            case 0 if found:
                found[at] = rng.randrange(256)
            case 1 if found:
                del found[at]
            case _:
                found.insert(at, rng.choice(b'0123456789.eE-+"{}[],:nulltrue \n\x00\xff'))
    return "bytes flipped", bytes(found)


def edits(text: str, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Without end: edits of a JSON document, drawn from `rng`; (what was done, bytes)."""
    document = json.loads(text)
    known = places(document)
    whole = list(texts(text))
    while True:
        kind = rng.random()
        if kind < 0.1:
            yield rng.choice(whole)
        elif kind < 0.25:
            yield flipped(text, rng)
        elif kind < 0.3:
            yield _with_a_key_twice(text, rng)
        else:
            what, found = [], document
            for _ in range(1 if rng.random() < 0.8 else 2):
                place = rng.choice(known)
                name, change = _drawn(place, rng)
                try:
                    found = edited(found, place, change)
                except (KeyError, IndexError, TypeError, AttributeError):
                    continue  # the first edit took that place away
                what.append(f"{'.'.join(map(str, place)) or 'the document'} {name}")
            yield "; ".join(what), json.dumps(found, indent=1).encode()


def _drawn(place: Place, rng: random.Random) -> tuple[str, Any]:
    changes = [(f"= {value!r:.40}", _set(value)) for value in WRONG]
    changes += [("as text", _wrap(str)), ("in a list", _wrap(lambda v: [v])),
                ("nested", _wrap(_nested)),
                ("scaled", _wrap(lambda v: _scaled(v, rng)))]  # fmt: skip
    if place:
        changes += [("removed", _remove)] * 4
        changes += [("renamed", _rename), ("in capitals", _capitals)] * isinstance(place[-1], str)
        changes += [("twice", _repeat)] * isinstance(place[-1], int)
    return rng.choice(changes)


def _with_a_key_twice(text: str, rng: random.Random) -> tuple[str, bytes]:
    at = [place for place, letter in enumerate(text) if letter == "{"]
    place = rng.choice(at or [0])
    key = text[place:].split('"')[1] if '"' in text[place:] else "a"
    return f"{key!r} twice", (text[: place + 1] + f'"{key}": null, ' + text[place + 1 :]).encode()


def _set(value: Any) -> Any:
    def change(parent: Any, key: Any) -> None:
        parent[key] = copy.deepcopy(value)

    return change


def _wrap(of: Any) -> Any:
    def change(parent: Any, key: Any) -> None:
        parent[key] = of(parent[key])

    return change


def _nested(value: Any) -> Any:
    for _ in range(50):
        value = [value]
    return value


def _scaled(value: Any, rng: random.Random) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value * rng.choice([-1, 1e-9, 1e9, 1e200, 2]) if number else value


def _remove(parent: Any, key: Any) -> None:
    del parent[key]


def _rename(parent: dict[str, Any], key: str) -> None:
    parent[f"{key}_"] = parent.pop(key)


def _capitals(parent: dict[str, Any], key: str) -> None:
    parent[key.upper()] = parent.pop(key)


def _repeat(parent: list[Any], key: int) -> None:
    parent.insert(key, parent[key])

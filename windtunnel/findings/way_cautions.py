"""What a reader must know before comparing the variants of a branch experiment."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from windtunnel.findings.ways import Way, Ways

TWO_SEEDS = 2
"""Shared: Student's interval then has one degree of freedom, and its width is nearly all chance."""


def cautions(left: Ways, first: str) -> Iterator[str]:
    """A sentence for each: little noise known, runs not there, ends that are not of one kind.

    `first` is the file's first variant; differences are from the first of those that finished.
    """
    ways, base = left.ways, left.ways[0]
    yield from _seeds(left)
    if base.name != first:
        yield f"{first!r} has no finished run: differences are from {base.name!r}"
    if left.diverged:
        yield f"diverged and left out: {_runs(left.diverged)}"
    if left.missing:
        yield f"not there yet: {_runs(left.missing)}"
    contexts = {way.context for way in ways}
    if len(contexts) > 1:
        yield (
            "losses are measured at each variant's own context, and a longer one is lower by "
            "itself: "
            + "; ".join(
                f"{named([w for w in ways if w.context == c])} at {c}" for c in sorted(contexts)
            )
        )
    held = [way for way in ways if not way.decayed]
    if held and len(held) < len(ways):
        yield (
            "ends at the stable rate, undecayed: "
            f"{named(held)}; a decay alone would lower that loss, so it is no match for the others"
        )
    by_end = sorted(ways, key=lambda way: way.tokens)
    ends = [
        f"{named(list(group))} after {tokens:,} tokens"
        for tokens, group in groupby(by_end, key=lambda way: way.tokens)
    ]
    if len(ends) > 1:
        yield (
            "variants end at different lengths, and a difference between them is one of more "
            f"training too: {'; '.join(ends)}"
        )


def _seeds(left: Ways) -> Iterator[str]:
    """Where one seed or two tell what noise is."""
    base, on = left.ways[0], left.sets[0]
    shared = {way: len(set(way.losses[on]) & set(base.losses[on])) for way in left.ways[1:]}
    if len({seed for way in left.ways for seed in way.losses[on]}) == 1:
        yield "one seed: nothing tells how large noise is, so no interval is given"
        return
    if apart := [way for way, seeds in shared.items() if not seeds]:
        yield f"no seed shared with {base.name!r}, and so not compared: {named(apart)}"
    if unsure := [way for way, seeds in shared.items() if seeds == 1]:
        yield f"one seed shared with {base.name!r}, so no interval: {named(unsure)}"
    if rough := [way for way, seeds in shared.items() if seeds == TWO_SEEDS]:
        which = "" if len(rough) == len(shared) else f": {named(rough)}"
        yield (
            f"two seeds{f' shared with {base.name!r}' if which else ''}, so an interval rests on "
            f"one degree of freedom and may by chance be far too narrow or too wide{which}"
        )


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def named(ways: Sequence[Way]) -> str:
    """`'docs', 'code10' and 'code'`."""
    return listed([repr(way.name) for way in ways])


def _runs(seeds: Mapping[str, tuple[int, ...]]) -> str:
    """`'code' (seeds 0 and 1)`."""
    return ", ".join(
        f"{name!r} (seed{'s' * (len(each) > 1)} {listed([str(seed) for seed in each])})"
        for name, each in seeds.items()
    )

"""Variants of a study that a mixture law may compare: those that differ in their mixture alone.

A table has columns for some of what a stage changes; segments have all of it, defaults in place.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from windtunnel.config import Branch, ScheduleChange, Segment
from windtunnel.errors import ConfigError
from windtunnel.runs.plan import PlannedSegment

Chain = tuple[Branch, ...]
"""The stages of a variant, first to last."""
Asked = Mapping[str, str]
"""What a variant asks for besides its mixture, by what it is called."""


def refuse_unlike(source: Path, ends: Iterable[PlannedSegment], asked_for: Collection[str]) -> None:
    """Refuse last stages of variants that differ in more than their mixture, at one size and fork.

    They are of the experiments `asked_for`, or of all.

    Raises:
        ConfigError: Some do.
    """
    cells: dict[tuple[int, int], dict[str, Chain]] = {}
    called: dict[str, str] = {}
    for end in ends:
        names = {e: n for e, n in end.variants.items() if not asked_for or e in asked_for}
        if not names:  # of no branch experiment
            continue
        chain = _chain(end.segment)
        cell = end.segment.model.params, chain[0].fork_step
        name = " or ".join(dict.fromkeys(names.values()))
        if len(asked_for) != 1:
            name = " or ".join(f"{experiment}:{name}" for experiment, name in names.items())
        cells.setdefault(cell, {}).setdefault(name, chain)
        called[name] = str(end.variant)
    for variants in cells.values():
        shared = _mixtures_told_apart(list(variants.values()))
        asked = {name: dict(_asked(chain, shared)) for name, chain in variants.items()}
        unlike = min((_unlike(asked, base) for base in asked), key=len)
        if not unlike:
            continue
        alike = [name for name in asked if name not in unlike]
        kept = dict.fromkeys(called[name] for name in alike)
        keep = f"Keep those that agree: --where 'variant in {','.join(kept)}'"
        if any(called[name] in kept for name in unlike):  # of another experiment
            keep = "Name one experiment with --experiment"
        raise ConfigError(
            f"{source}: a mixture law compares variants that differ in their mixture alone. Unlike "
            f"{alike[0]!r}, {'; '.join(unlike.values())}. {keep}"
        )


def _unlike(asked: Mapping[str, Asked], base: str) -> dict[str, str]:
    """The variants that ask for anything else than `base`, each with what that is."""
    found, theirs = {}, asked[base]
    for name, mine in asked.items():
        parts = [
            f"{what} {mine[what]}, not {theirs[what]}"
            for what in mine
            if what in theirs and mine[what] != theirs[what]
        ]
        if parts:
            found[name] = f"{name!r} has {' and '.join(parts)}"
    return found


def _asked(chain: Chain, mixtures: Iterable[int]) -> Iterator[tuple[str, str]]:
    """All but the mixture; of `mixtures`, stages by number, whether it is that of the end."""
    yield "stages", str(len(chain))
    for number, branch in enumerate(chain):
        of = f" of stage {number + 1}" if len(chain) > 1 else ""
        rate = branch.change(ScheduleChange) or ScheduleChange(shape="constant")
        yield f"length{of}", f"{branch.steps} updates"
        yield f"shape{of}", "stable" if rate.shape == "constant" else rate.shape
        if rate.shape != "constant":
            yield f"final_factor{of}", f"{rate.final_factor:g}"
        yield f"rate{of}", f"{rate.rate:g}"
        yield f"warmup{of}", f"{rate.warmup} updates"
        yield f"ramp{of}", f"{branch.mixture.ramp if branch.mixture else 0} updates"
        yield f"batch_tokens{of}", str(branch.recipe.batch_tokens)
        yield f"lr{of}", f"{branch.recipe.lr:.6g}"
        yield f"context{of}", str(branch.model.context)
        yield f"rope_base{of}", f"{branch.model.rope_base:g}"
        yield f"loss{of}", branch.objective
        if number in mixtures:
            at_end = branch.stream == chain[-1].stream
            yield f"mixture{of}", "that of its end" if at_end else _mixture(branch)


def _mixtures_told_apart(chains: list[Chain]) -> list[int]:
    """Stages, counted from 0, that not all variants read in one mixture."""
    shortest = min(map(len, chains))
    return [k for k in range(shortest) if len({chain[k].stream for chain in chains}) > 1]


def _mixture(segment: Segment) -> str:
    """`docs 0.9, code 0.1`."""
    if not isinstance(segment, Branch):
        return "the trunk's"
    if segment.mixture is None or segment.mixture.mixture is None:
        return _mixture(segment.parent)
    weights = segment.mixture.mixture
    total = sum(weights.values())
    return ", ".join(f"{name} {weight / total:.4g}" for name, weight in weights.items() if weight)


def _chain(segment: Segment) -> Chain:
    return (*_chain(segment.parent), segment) if isinstance(segment, Branch) else ()

"""A search with what the page derives from it: sentences and pictures."""

from dataclasses import dataclass

from windtunnel.report.figures.canvas import Picture
from windtunnel.report.figures.search import above_scale, best_so_far, slices
from windtunnel.report.inputs import Search
from windtunnel.trials.search_words import field_name, missing, ranges, searched, standing


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchView:
    """One search.

    `near` holds the values of the trials near the winner, `compared` how many trials the
    importances rest on, `above` how many lie above the scale of the slices.
    """

    search: Search
    searched: str
    missing: list[str]
    interval: tuple[float, float] | None
    near: dict[str, str]
    standing: dict[int, str]
    names: dict[str, str]
    above: int
    compared: int
    slices: Picture | None
    best_so_far: Picture | None


def search_view(search: Search) -> SearchView:
    """All that the page says of a search."""
    outcome = search.outcome
    return SearchView(
        search=search,
        searched=searched(outcome),
        missing=missing(outcome),
        interval=outcome.winner_interval(),
        near=ranges(outcome.experiment, outcome.near) if outcome.near else {},
        standing={each.result.trial.number: standing(outcome, each) for each in outcome.finalists},
        names={axis: field_name(outcome.experiment, axis) for axis in outcome.experiment.space},
        above=above_scale(search),
        compared=sum(1 for each in outcome.results if each.at and each.at[0] is not None),
        slices=slices(search),
        best_so_far=best_so_far(search),
    )

"""`windtunnel probe`: the copy gain of runs that finished before it was measured."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from windtunnel.cli.options import AsJson, StudyFile
from windtunnel.cli.text import print_json, say, terminal

if TYPE_CHECKING:
    from windtunnel.runs.probe import Found
    from windtunnel.runs.study import Study


def probe(study: StudyFile, as_json: AsJson = False) -> None:
    """Measure the copy gain of finished runs that have none, from their last checkpoints.

    Nothing is trained. Runs whose last checkpoint is gone are listed.
    """
    from windtunnel.runs.study import open_study

    run_probe(open_study(study, prepared=True), as_json=as_json)


def run_probe(study: "Study", *, as_json: bool) -> None:
    """Fill in what can be measured, and print what cannot."""
    from windtunnel.runs.measured import gather
    from windtunnel.runs.probe import fill_copy_gains

    filled = fill_copy_gains(study)
    if not as_json:
        for line in _lines(filled):
            say(terminal(), line)
        return
    runs = {run.segment: run for run in gather(study.store, study.plan)}
    names = ("segment", "copy_gain", "copy_gain_se")
    measured = [
        {name: getattr(runs[segment], name) for name in names} for segment in filled["measured"]
    ]
    print_json(filled | {"measured": measured})


MEANINGS: "Mapping[Found, str]" = {
    "measured": "measured now",
    "known": "measured before",
    "freed": "cannot be measured, since `gc` freed their last checkpoint",
    "damaged": "cannot be measured until `windtunnel sweep` has made their last checkpoint again",
    "in_use": "in use by another process: run the same command again",
    "impossible": "cannot be measured: a chunk needs a context of 32 tokens, and a validation set "
    "of full text",
}
NAMED: "frozenset[Found]" = frozenset({"freed", "damaged", "in_use"})


def _lines(filled: "Mapping[Found, list[str]]") -> Iterator[str]:
    """One line for each kind of run that there is."""
    for found, meaning in MEANINGS.items():
        if segments := filled[found]:
            named = f": {', '.join(segments)}" if found in NAMED else ""
            yield f"{len(segments)} runs {meaning}{named}"
    if not any(filled.values()):
        yield "no run is finished yet"

"""The search scheduler: batches of trials, early stopping at rungs (ASHA or median), then repeats.

A search grows the plan batch by batch and rung by rung, and finally repeats its best trials. Trials
are compared at equal phase: each branches off its trunk and decays, and the loss at the end of that
branch counts, because a truncated run is not a shorter run (design decision 6). A batch is judged
once all of it has reached the rung, together with all earlier trials there, so the order of arrival
does not matter. ASHA: Li et al. 2020 (arXiv 1810.05934); median rule: Golovin et al. 2017.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from statistics import median

from windtunnel.config.search import SearchExperiment
from windtunnel.runs.plan import PlannedSegment, planned_segments
from windtunnel.runs.points import search_points, trial_horizons
from windtunnel.runs.search.trial_log import (
    SuggestedTrial,
    TrialLog,
    read_suggested,
    write_suggested,
)
from windtunnel.runs.search.trials import TrialResult, trial_results
from windtunnel.runs.study import Study


def promoted_trials(
    experiment: SearchExperiment, results: Sequence[TrialResult], *, horizons: int
) -> set[int]:
    """Numbers of the last batch's trials that continue beyond its latest rung.

    `horizons` counts the rungs and the end. Empty when the batch has reached the end.
    """
    if not results or experiment.early_stopping is None:
        return set()
    batch = [result for result in results if result.trial.batch == results[-1].trial.batch]
    rung = max(result.trial.admitted for result in batch)
    if rung == horizons:
        return set()
    at_rung = [
        (loss, result.trial.number) for result in results if (loss := _loss_at(result, rung))
    ]
    candidates = {result.trial.number for result in batch if result.trial.admitted == rung}
    if experiment.early_stopping.rule == "median":
        middle = median(loss for loss, _ in at_rung) if at_rung else 0.0
        chosen = {number for loss, number in at_rung if loss <= middle}
    else:
        places = max(1, int(len(at_rung) / experiment.early_stopping.reduction))
        chosen = {number for _, number in sorted(at_rung)[:places]}
    return candidates & chosen


def _loss_at(result: TrialResult, rung: int) -> float | None:
    """Loss of a trial at the end of a rung (from 1), in nats per token; None without one."""
    return result.at[rung - 1] if len(result.at) >= rung else None


class SearchScheduler:
    """Scheduler of all searches of a study; it writes suggestions before it returns them.

    `has_ended` says whether the store already holds everything planned of a segment.
    """

    def __init__(self, study: Study, *, has_ended: Callable[[PlannedSegment], bool]) -> None:
        self._has_ended = has_ended
        self.searches: list[_Search] = []
        self.add(study)

    def add(self, study: Study) -> None:
        """Take in the searches of a study that no longer wait."""
        known = {search.experiment.name for search in self.searches}
        self.searches += [
            _Search(study, experiment, has_ended=self._has_ended)
            for experiment in study.config.experiments
            if isinstance(experiment, SearchExperiment)
            and experiment.name not in known | study.waits_for.keys()
        ]

    @property
    def unfinished(self) -> set[str]:
        """Names of the searches that have open segments, or have not repeated their best trials."""
        return {
            search.experiment.name
            for search in self.searches
            if search.open or search.suggested.finalists is None
        }

    def begin(self, ended: Collection[str]) -> list[PlannedSegment]:
        """Next segments of every search with no open segment, given the ids that have `ended`."""
        return [planned for search in self.searches for planned in search.begin(ended)]

    def after(self, planned: PlannedSegment) -> list[PlannedSegment]:
        """Segments to add after a segment has ended, with or without a loss."""
        return [new for search in self.searches for new in search.after(planned)]


class _Search:
    """The state of one search: its trial log, its planned segments, and those still open."""

    def __init__(
        self,
        study: Study,
        experiment: SearchExperiment,
        *,
        has_ended: Callable[[PlannedSegment], bool],
    ) -> None:
        self.study, self.experiment, self.has_ended = study, experiment, has_ended
        self.suggested = read_suggested(study.folder, experiment)
        self.planned = self._plan()
        self.open = self._not_ended(self.planned.values())

    def begin(self, ended: Collection[str]) -> list[PlannedSegment]:
        self.open.difference_update(ended)
        return self.advance()

    def after(self, planned: PlannedSegment) -> list[PlannedSegment]:
        if planned.id not in self.open:
            return []
        self.open.discard(planned.id)
        return self.advance()

    def advance(self) -> list[PlannedSegment]:
        """Segments that are new or longer in the plan; suggests until something has to run."""
        new: dict[str, PlannedSegment] = {}
        while not self.open:
            results = trial_results(
                self.study.study_context, self.experiment, self.suggested, self.study.store
            )
            following = self._following(results)
            if following.batches > self.suggested.batches or following.finalists is not None:
                self._write_journal(results)  # all rungs are judged, so every outcome is final
            if following == self.suggested:
                break
            write_suggested(self.study.folder, self.experiment, following)
            self.suggested, before = following, self.planned
            self.planned = self._plan()
            changed = {i: p for i, p in self.planned.items() if before.get(i) != p}
            new |= changed
            self.open = self._not_ended(changed.values())
        return list(new.values())

    def _following(self, results: Sequence[TrialResult]) -> TrialLog:
        """The trial log with the next promotions, batch or finalists; unchanged at the end."""
        experiment, suggested = self.experiment, self.suggested
        horizons = len(trial_horizons(experiment))
        if promoted := promoted_trials(experiment, results, horizons=horizons):
            trials = [
                trial.replace(admitted=trial.admitted + 1) if trial.number in promoted else trial
                for trial in suggested.trials
            ]
            return suggested.replace(trials=tuple(trials))
        if len(results) < experiment.trials and (batch := self._next_batch(results)):
            return suggested.replace(trials=(*suggested.trials, *batch), finalists=None)
        return suggested.replace(finalists=best(results, experiment.top))

    def _next_batch(self, results: Sequence[TrialResult]) -> list[SuggestedTrial]:
        from windtunnel.engine.samplers import suggest  # loads optuna, and torch for gp

        values = suggest(self.study.config, self.experiment, results)
        return [
            SuggestedTrial(number=number, batch=self.suggested.batches, values=each)
            for number, each in enumerate(values, start=len(results))
        ]

    def _write_journal(self, results: Sequence[TrialResult]) -> None:
        from windtunnel.engine.journal import write_journal

        write_journal(self.study.folder, self.study.config, self.experiment, results)

    def _plan(self) -> dict[str, PlannedSegment]:
        points = search_points(self.study.study_context, self.experiment, self.suggested)
        return {planned.id: planned for planned in planned_segments(points)}

    def _not_ended(self, planned: Iterable[PlannedSegment]) -> set[str]:
        return {
            each.id
            for each in planned
            if each.segment.kind == "branch" and not self.has_ended(each)
        }


def best(results: Sequence[TrialResult], count: int) -> tuple[int, ...]:
    """Numbers of the `count` best trials, lowest loss first; equal values count once."""
    finished = sorted(
        (result.value, result.trial.number) for result in results if result.value is not None
    )
    numbers = {repr(results[number].trial.values): number for _, number in reversed(finished)}
    return tuple(number for _, number in finished if number in numbers.values())[:count]

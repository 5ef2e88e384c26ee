"""A study opened over its store: configuration, locked data and plan. Loads no torch.

A plan that cannot be made is an error at its own line of the study file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any

from windtunnel.config import StudyConfig, load_study
from windtunnel.config.data import SourceConfig
from windtunnel.config.errors import reason
from windtunnel.config.load import place_named, place_of
from windtunnel.config.search import SearchExperiment
from windtunnel.config.segment import rows_at
from windtunnel.config.settled import waits_for
from windtunnel.config.study import GridExperiment
from windtunnel.config.units import Misfit
from windtunnel.data import (
    Account,
    Dataset,
    DataSpec,
    Progress,
    Source,
    ValidationSet,
    changes_since,
    find_prepared,
    prepare,
    prepare_validation,
)
from windtunnel.data.account import Tally
from windtunnel.data.files import source_files
from windtunnel.data.tokenizer import load_tokenizer
from windtunnel.errors import ConfigError, DataError, Diagnostic
from windtunnel.runs.completion import WantedSet
from windtunnel.runs.curves import curve_diagnostics, cut_broken_curves
from windtunnel.runs.data_lock import (
    differences,
    locked_section,
    open_locked,
    restore_locked,
    verify_prepared,
)
from windtunnel.runs.files import read_json, write_json
from windtunnel.runs.plan import Plan, make_plan
from windtunnel.runs.plan_checks import (
    REFUSED,
    at_place,
    check_effects,
    misfit_of,
    space_misfit,
    space_of,
)
from windtunnel.runs.points import StudyContext
from windtunnel.runs.preflight import check_execution
from windtunnel.runs.schemas import DATA_LOCK
from windtunnel.runs.search.projection import projected_trials, trial_count
from windtunnel.runs.search.trial_log import TrialLog, read_suggested
from windtunnel.runs.store import Store
from windtunnel.runs.streams import Streams
from windtunnel.runs.taken import Taken, read_taken, write_taken

UNPREPARED = "unprepared"
"""Placeholder for the stream's fingerprint in a plan made before the data; its ids are not real."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A checked study file with its store, its prepared data and its plan.

    Attributes:
        written: as the file has it.
        config: settled as far as results are known.
        plan: with the trials that searches have suggested, without experiments that wait.
        expected_plan: with the projected trials too, and with experiments that wait at the study's
            own recipe.
        taken: what experiments have taken from earlier ones.
        waits_for: experiments that wait, each with those whose results it lacks.
    """

    file: Path
    written: StudyConfig
    config: StudyConfig
    store: Store
    dataset: Dataset | None
    extra_validation: tuple[ValidationSet, ...]
    study_context: StudyContext
    plan: Plan
    expected_plan: Plan
    taken: Taken = field(default_factory=Taken)
    waits_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the study's plan, forecasts, fits and report."""
        return self.store.study(self.config.study)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages of the warnings about the plan and the data."""
        return tuple(diagnostic.message for diagnostic in self.diagnostics)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Warnings about the plan and the data; docs/data.md lists those of the data."""
        return (*self.plan.warnings, *self.data_diagnostics, *self._curves)

    @property
    def data_diagnostics(self) -> tuple[Diagnostic, ...]:
        """Warnings about the data."""
        if self.dataset is None:
            return tuple(each for each in self._sources.values() if isinstance(each, Diagnostic))
        return (*self.token_diagnostics, *self._changes)

    @property
    def token_diagnostics(self) -> tuple[Diagnostic, ...]:
        """Warnings about the tokens that runs read, which hold for every fit of them too."""
        if self.dataset is None:
            return ()
        cut = chain.from_iterable(map(self.dataset.cut_diagnostics, self.contexts))
        extra = chain.from_iterable(each.diagnostics() for each in self._extra_accounts())
        return (*self.dataset.diagnostics, *extra, *cut, *self._repeats())

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Kept and excluded content of each source; () if unprepared."""
        trained = (source.account for source in self.dataset.sources) if self.dataset else ()
        return (*trained, *self._extra_accounts())

    def _extra_accounts(self) -> Iterator[Account]:
        return (each.account for each in self.extra_validation if not each.conditional)

    @cached_property
    def _curves(self) -> tuple[Diagnostic, ...]:
        """A warning about finished segments with a broken curve."""
        return curve_diagnostics(self.store, self.plan.segments)

    @cached_property
    def _changes(self) -> tuple[Diagnostic, ...]:
        """Warnings about sources that differ from those of the locked tokens."""
        if self.dataset is None:
            return ()
        return changes_since(self.dataset, _data_spec(self.config, self.file), root=self.store.data)

    @property
    def contexts(self) -> tuple[int, ...]:
        """Contexts of the plan's segments, shortest first."""
        return tuple(sorted({each.segment.model.context for each in self.plan.segments}))

    @property
    def validation(self) -> tuple[ValidationSet, ...]:
        """Every set that losses are measured on."""
        held_out = self.dataset.validation if self.dataset else ()
        return (*held_out, *self.extra_validation)

    @property
    def wanted(self) -> dict[str, WantedSet]:
        """The tokens that the study measures on each validation set."""
        validation = self.config.data.validation
        return {
            each.name: WantedSet(
                each.fingerprint, end_tokens=validation.tokens, fork_tokens=validation.fork_tokens
            )
            for each in self.validation
        }

    @property
    def expected(self) -> "Study":
        """The study with all projected trials of its searches in its plan, for cost estimates."""
        return replace(self, plan=self.expected_plan)

    @property
    def tokenizer(self) -> str:
        """`bytes`, or the absolute path of the tokenizer.json."""
        return _tokenizer(self.config, self.file)

    @property
    def longest_tokens(self) -> int:
        """Tokens on the longest path of the plan."""
        return max(planned.tokens_at_end for planned in self.expected_plan.segments)

    @property
    def most_epochs(self) -> float | None:
        """Most epochs of any source on any path; None if unprepared."""
        return max(self.epochs.values(), default=None)

    @cached_property
    def epochs(self) -> dict[str, float]:
        """Most epochs of any source on a segment's path, by id; {} if unprepared."""
        if self.dataset is None:
            return {}
        streams = Streams(self.dataset)  # not cached: Ray copies a study with all its attributes
        return {
            planned.id: max(
                streams.of(planned.segment).epochs(rows_at(planned.segment, planned.end)).values()
            )
            for planned in self.expected_plan.segments
        }

    @property
    def unread(self) -> dict[str, tuple[str, Tally | None]]:
        """Path and files of each source by name, before the data is prepared; then {}.

        The files are None for a builtin, and where they cannot be read.
        """
        if self.dataset is not None:
            return {}
        data, found = self.config.data, self._sources
        return {
            source.label: (source.path, tally if isinstance(tally, Tally) else None)
            for source in (*data.sources, *data.validation.extra)
            for tally in [found[source.label]]
        }

    @cached_property
    def _sources(self) -> dict[str, Tally | Diagnostic | None]:
        """The files of each source, or a warning where a sweep would stop; None for a builtin."""
        data = self.config.data
        return {
            source.label: _files_of(source, self.file)
            for source in (*data.sources, *data.validation.extra)
        }

    def _repeats(self) -> tuple[Diagnostic, ...]:
        epochs = self.most_epochs or 0.0
        if epochs <= 1.0:
            return ()
        return (
            Diagnostic(
                "repeated-data",
                f"the longest path reads {self.longest_tokens:.3g} tokens, and some path "
                f"{epochs:.2f} epochs of its most repeated source; a law of fresh data does not "
                "hold there (Muennighoff et al. 2023): give more text, plan shorter horizons, or "
                "fit --law data-constrained",
                epochs=epochs,
                tokens=self.longest_tokens,
            ),
        )


def open_study(
    file: Path,
    *,
    progress: Progress | None = None,
    prepared: bool = False,
    locks: bool = True,
) -> Study:
    """Read a study file and open its store; with `prepared`, prepare missing data.

    The first preparation locks the stream: later openings use the prepared tokens, whatever becomes
    of their sources. Without `locks` it does not, so that the data can be looked at and changed.
    With `prepared`, every token is verified. Else tokens that another study of the store has
    prepared from the same data are used.

    Raises:
        ConfigError: The study file is wrong, or its data differs from the data lock.
        DataError: A source is missing, empty or damaged, or a validation set too short for the
            context of some segment.
        StoreError: The store cannot be written.
    """
    written = load_study(file)
    store = Store(place_named(written.store, file, "store"))
    store.check_format()
    taken = read_taken(store.study(written.study), written)
    config = taken.settle(written)
    lock_file = store.study(config.study) / "data.json"
    lock = read_json(lock_file, DATA_LOCK)
    section = locked_section(config)
    if lock is not None and lock["asked"] != section:
        raise _other_data(config, file, lock_file, lock["asked"], section)
    dataset, extra = None, tuple[ValidationSet, ...]()
    if lock is not None:
        if prepared:
            restore_locked(store, lock, lock_file, _data_spec(config, file), progress)
        dataset = open_locked(store, lock, lock_file)
    elif prepared:
        # Contradictions are reported before the data is read, which may take hours.
        plan_of(
            file,
            StudyContext(config=config, vocab_size=_vocab_size(config, file), stream=UNPREPARED),
            {},
        )
        store.open_for_writing()
        dataset = prepare(_data_spec(config, file), root=store.data, progress=progress)
        lock = {
            "asked": section,
            "dataset": str(dataset.folder.relative_to(store.root)),
            "stream": dataset.fingerprint,
        }
        if locks:
            write_json(lock_file, lock)
    else:
        sources = (*config.data.sources, *config.data.validation.extra)
        if not any(_missing(source, file) for source in sources):
            dataset = find_prepared(_data_spec(config, file), root=store.data)
    if dataset is not None:
        extra = _extra_validation(config, file, store, dataset, progress)
        if prepared:
            verify_prepared(dataset, extra, root=store.data, progress=progress)
    study_context = StudyContext(
        config=config,
        vocab_size=dataset.vocab_size if dataset else _vocab_size(config, file),
        stream=dataset.fingerprint if dataset else UNPREPARED,
        dataset=dataset,
        sets={each.name: each.fingerprint for each in (*dataset.validation, *extra)}
        if dataset
        else {},
    )
    study = _planned(file, written, store, study_context, taken, extra=extra)
    for validation, context in product(study.validation, study.contexts):
        validation.check(context)
    if prepared:
        cut_broken_curves(store, study.plan.segments)
    return study


def _planned(
    file: Path,
    written: StudyConfig,
    store: Store,
    study_context: StudyContext,
    taken: Taken,
    *,
    extra: tuple[ValidationSet, ...],
) -> Study:
    """The study with the plan of everything that is known, and the expected one."""
    config, waits = study_context.config, waits_for(study_context.config)
    study_context = replace(study_context, waiting=frozenset(waits))
    searches = [each for each in config.experiments if isinstance(each, SearchExperiment)]
    suggested = {each.name: read_suggested(store.study(config.study), each) for each in searches}
    plan = expected_plan = plan_of(file, study_context, suggested)
    if searches or waits:
        projected = {
            each.name: projected_trials(config, each, suggested[each.name]) for each in searches
        }
        everything = replace(study_context, waiting=frozenset())
        expected_plan = plan_of(file, everything, projected)
    return Study(
        file=file,
        written=written,
        config=config,
        store=store,
        dataset=study_context.dataset,
        extra_validation=extra,
        study_context=study_context,
        plan=plan,
        expected_plan=expected_plan,
        taken=taken,
        waits_for=waits,
    )


def replanned(study: Study) -> Study:
    """The study with the plan that follows from the trials that its searches suggested by now.

    Raises:
        ConfigError: As of `plan_of`.
    """
    return _planned(
        study.file,
        study.written,
        study.store,
        study.study_context,
        study.taken,
        extra=study.extra_validation,
    )


def with_taken(study: Study, taken: Taken) -> Study:
    """The study after experiments have taken their values, with the plan that follows.

    Raises:
        ConfigError: As of `plan_of`.
        StoreError: The values cannot be written.
    """
    write_taken(study.folder, taken)
    context = replace(study.study_context, config=taken.settle(study.written))
    return _planned(
        study.file, study.written, study.store, context, taken, extra=study.extra_validation
    )


def _other_data(
    config: StudyConfig,
    file: Path,
    lock_file: Path,
    locked: dict[str, Any],
    stated: dict[str, Any],
) -> ConfigError:
    """The error for data that differs from the lock; paths that do not exist come first."""
    known = {source["path"] for source in locked["sources"]}
    missing = {
        source.label: path
        for source in config.data.sources
        if source.path not in known and (path := _missing(source, file))
    }
    lost = "".join(
        f"there is no {path}: correct `path` of source {label!r}, which is relative to the study "
        "file. "
        for label, path in missing.items()
    )
    changes = list(differences(locked, stated))
    return ConfigError(
        "other-data",
        f"{file}: data: {lost}The runs of study {config.study!r} were trained on other data or "
        f"another tokenizer ({lock_file} locks them): {'; '.join(changes)}. Put it back, or give "
        "the changed study a new `study:` name",
        study=config.study,
        file=lock_file,
        changes=changes,
        missing=missing,
    )


def _data_spec(config: StudyConfig, file: Path) -> DataSpec:
    data = config.data
    return DataSpec(
        sources=tuple(_source(source, file) for source in data.sources),
        tokenizer=_tokenizer(config, file),
        vocab_size=data.vocab_size,
        validation_fraction=data.validation.fraction,
        end_of_text=data.end_of_text,
        dedup=data.dedup_share,
    )


def _extra_validation(
    config: StudyConfig, file: Path, store: Store, dataset: Dataset, progress: Progress | None
) -> tuple[ValidationSet, ...]:
    return tuple(
        each
        for source in config.data.validation.extra
        for each in prepare_validation(
            _source(source, file),
            tokenizer=_tokenizer(config, file),
            vocab_size=dataset.vocab_size,
            end_of_text=config.data.end_of_text,
            root=store.data,
            progress=progress,
        )
    )


def _source(source: SourceConfig, file: Path) -> Source:
    return Source(
        name=source.label,
        path=_absolute(source.path, file),
        weight=source.weight,
        text_column=source.text_column,
        pairs=source.pairs,
        dtype=source.dtype,
    )


def _tokenizer(config: StudyConfig, file: Path) -> str:
    name = config.data.tokenizer
    return name if name == "bytes" else _absolute(name, file)


def _files_of(source: SourceConfig, file: Path) -> Tally | Diagnostic | None:
    """The files of a source, or why a sweep would stop there; None for a builtin."""
    if source.path.startswith("builtin:"):
        return None
    if missing := _missing(source, file):
        return Diagnostic(
            "missing-source",
            f"{file}: data source {source.label!r}: there is no {missing}; the sweep "
            "will stop there: correct `path`, which is relative to the study file",
            source=source.label,
            path=missing,
        )
    tally = Tally()
    try:
        source_files(_source(source, file), tally)
    except DataError as refused:
        return refused.diagnostic()
    return tally


def _missing(source: SourceConfig, file: Path) -> str | None:
    """The path of a source that does not exist."""
    path = _absolute(source.path, file)
    return None if path.startswith("builtin:") or Path(path).exists() else path


def _absolute(path: str, file: Path) -> str:
    if path.startswith("builtin:"):
        return path
    return str(place_named(path, file, "data").resolve())


def _vocab_size(config: StudyConfig, file: Path) -> int:
    if config.data.vocab_size is not None:
        return config.data.vocab_size
    tokenizer = load_tokenizer(_tokenizer(config, file), end_of_text=config.data.end_of_text)
    return tokenizer.vocab_size


def plan_of(file: Path, study_context: StudyContext, suggested: Mapping[str, TrialLog]) -> Plan:
    """The plan of the study in `file`.

    For an unfinished search, values that it may still suggest are checked too.

    Raises:
        ConfigError: Values do not fit together, an axis changes no run, or a horizon is too short,
            with the file, the line and the values.
        DataError: A mixture gives a source too small a share.
    """
    try:
        plan = make_plan(study_context, suggested)
        for number, experiment in enumerate(study_context.config.experiments):
            if isinstance(experiment, GridExperiment):
                check_effects(space_of(study_context, experiment), number)
            elif isinstance(experiment, SearchExperiment):
                known = suggested.get(experiment.name, TrialLog())
                if len(known.trials) < trial_count(experiment):
                    _check_search(study_context, experiment, number)
        check_execution(study_context.config, plan.segments)
    except REFUSED as refused:
        raise _placed(file, study_context, refused) from None
    return plan


def _check_search(study_context: StudyContext, experiment: SearchExperiment, number: int) -> None:
    space = space_of(study_context, experiment)
    if misfit := space_misfit(space, number):
        raise misfit
    check_effects(space, number)


def _placed(file: Path, study_context: StudyContext, refused: Exception) -> ConfigError | DataError:
    """The error with the file and the line of its cause."""
    misfit = refused if isinstance(refused, Misfit) else None
    for number in range(len(study_context.config.experiments)):
        misfit = misfit or misfit_of(study_context, number)
    misfit = misfit or at_place(refused, reason(refused), "experiments")
    kind = DataError if isinstance(refused, DataError) else ConfigError
    where = place_of(file, *misfit.place)
    return kind(misfit.code, f"{where}: {misfit}", **misfit.values | {"where": where})

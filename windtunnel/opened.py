"""A study opened in Python: its runs, curves, fits, winners and forecasts. Needs no server.

>>> study = open_study("study.yaml")  # doctest: +SKIP
>>> study.runs.groupby("size").loss.min()  # doctest: +SKIP
>>> study.fit().optimum(flops=1e21)  # doctest: +SKIP
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windtunnel.config import StudyConfig
from windtunnel.errors import ConfigError, Diagnostic, did_you_mean
from windtunnel.findings import Finding, Records, findings_of, read_records, records_of
from windtunnel.findings.forecast_scores import forecast_scores
from windtunnel.laws import OF_CURVES, Fit, Table
from windtunnel.laws import fit as fit_law
from windtunnel.laws.mixture import MixtureFit, fit_mixture
from windtunnel.report.collect import study_warnings
from windtunnel.runs.dynamics import CHANGE
from windtunnel.runs.forecast import law_inputs
from windtunnel.runs.imported import imported_diagnostics
from windtunnel.runs.law_rows import (
    MIXTURE,
    OF_SIZE_AND_DATA,
    fitted_experiments,
    law_rows,
    of_variants,
    rows_file,
)
from windtunnel.runs.run import Run
from windtunnel.runs.study import Study
from windtunnel.runs.study import open_study as open_file
from windtunnel.runs.table import as_row
from windtunnel.tables.law_table import law_table, naming_source

if TYPE_CHECKING:
    from pandas import DataFrame

    from windtunnel.plots import Figures


class OpenStudy:
    """What a study measured, as tables and fits named like the commands.

    Attributes:
        records: everything that it measured, as `windtunnel records` writes it.
        study: the study over its store, for `build_handoff` and `write_report`; None where only
            records were opened.
    """

    def __init__(self, records: Records, study: Study | None = None) -> None:
        self.records, self.study = records, study

    @property
    def name(self) -> str:
        """The study's name."""
        return self.records.study

    @property
    def config(self) -> StudyConfig:
        """The study file, with every default in place."""
        return self.records.config

    @cached_property
    def runs(self) -> "DataFrame":
        """One row per finished, diverged or imported run: `windtunnel runs`, with size and axes."""
        from pandas import DataFrame

        imported = [as_row(run) | {"size": run.size} for run in self.records.imported]
        return DataFrame([*self.records.rows(), *imported])

    @cached_property
    def curves(self) -> "DataFrame":
        """Training curves, down-sampled: segment, trunk, kind, params, seed, tokens, loss."""
        from pandas import DataFrame, concat

        parts = [
            DataFrame({"segment": each.segment, "trunk": each.trunk, "kind": each.kind,
                       "params": each.params, "seed": each.seed, "tokens": each.tokens,
                       "loss": each.loss})
            for each in self.records.curves
        ]  # fmt: skip
        return concat(parts, ignore_index=True) if parts else DataFrame()

    @cached_property
    def dynamics(self) -> "DataFrame":
        """Gradient and update statistics in bins of updates, where the study records them.

        Columns: segment, kind, params, after, step (the bin's bounds), the series, and `change:X`,
        the largest change of a weight of matrix X in a window.
        """
        from pandas import DataFrame, concat

        parts = [
            DataFrame(
                {"segment": each.segment, "kind": each.kind, "params": each.params,
                 "after": each.after, "step": each.step, **each.series,
                 **{f"{CHANGE}{name}": change for name, change in each.changes.items()}}
            )
            for each in self.records.dynamics
        ]  # fmt: skip
        return concat(parts, ignore_index=True) if parts else DataFrame()

    @cached_property
    def routing(self) -> "DataFrame":
        """Load and routers of mixtures of experts: a row per segment, bin of updates and layer."""
        from pandas import DataFrame

        return DataFrame([asdict(each) for each in self.records.routing])

    def runs_of(self, experiment: str) -> "DataFrame":
        """The finished, decayed runs of one experiment, which laws are fitted to.

        Raises:
            ConfigError: The study has no experiment of that name.
        """
        return self.records.frame(experiment)

    @cached_property
    def fits(self) -> dict[str, Fit]:
        """The fits that the report and `windtunnel fit --out` left in the store, by file stem.

        Empty of records; `fit` makes one.
        """
        files = sorted(self.study.folder.glob("fit*.json")) if self.study else []
        return {path.stem: Fit.read(path) for path in files}

    @cached_property
    def winners(self) -> "DataFrame":
        """The winner of each search: search, trial, loss (nats) with its ends, and its values."""
        from pandas import DataFrame

        rows = []
        for search in self.records.searches:
            if (winner := search["winner"]) is None:
                continue
            low, high = winner["interval"] or (None, None)
            row = {"search": search["experiment"], "trial": winner["trial"], "loss": winner["loss"],
                   "low": low, "high": high, "seeds": len(winner["seeds"])}  # fmt: skip
            rows.append(row | winner["values"])
        return DataFrame(rows)

    @cached_property
    def forecasts(self) -> "DataFrame":
        """The forecast of every held-out run, with what was measured since.

        Columns: experiment, params, tokens, forecast (nats), low, high, measured (geometric mean of
        the seeds), error (ln forecast / measured), inside (of the measured runs, how many), blind
        (whether the forecast came first).
        """
        from pandas import DataFrame

        return DataFrame(
            [
                {"experiment": scores.experiment, "params": point.params, "tokens": point.tokens,
                 "forecast": point.forecast, "low": point.low, "high": point.high,
                 "measured": point.truth, "error": point.error(point.forecast),
                 "runs": len(point.measured), "inside": point.inside,
                 "blind": not scores.trained_before}
                for scores in forecast_scores(self.records.forecasts, self.records.runs)
                for point in scores.points
            ]
        )  # fmt: skip

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of the report."""
        return tuple(findings_of(self.records))

    def table(self, experiment: str) -> Table:
        """The finished, decayed runs of one experiment, as a law takes them.

        Raises:
            ConfigError: The study has no experiment of that name.
            FitError: It has no finished run.
        """
        return self.records.table(experiment)

    def fit(
        self,
        law: str | None = None,
        *,
        experiment: str | Sequence[str] | None = None,
        where: str | Sequence[str] = (),
        **options: Any,
    ) -> Fit | MixtureFit:
        """The law of the study's runs, as `windtunnel fit STUDY.yaml` makes it.

        Args:
            law: as of `windtunnel.fit`, or `mixture`.
            experiment: whose runs are fitted; default: the scaling experiments, or for `mixture`
                the one with a design.
            where: conditions on the runs.
            options: of `windtunnel.fit`, or of `windtunnel.fit_mixture`.

        Raises:
            ConfigError: An unknown experiment, or a condition that cannot be used.
            FitError: The runs cannot carry the law.
        """
        names = [experiment] if isinstance(experiment, str) else list(experiment or ())
        known = [each.name for each in self.config.experiments]
        for name in names:
            if name not in known:
                raise ConfigError(
                    "unknown-experiment",
                    f"study {self.name!r}: no experiment {name!r}{did_you_mean(name, known)}; it "
                    f"has {', '.join(known)}",
                    experiment=name,
                    known=known,
                )
        taken = set(names) or fitted_experiments(self.config, law or "auto")
        if law == MIXTURE:
            runs = of_variants(self._of(taken, own=True), self.config, taken)
            return fit_mixture([as_row(run) for run in runs if run.decayed], **options)
        where = (where,) if isinstance(where, str) else tuple(where)
        law_or_default, holdout = law or "auto", options.pop("holdout", "largest")
        imports = law_or_default in OF_SIZE_AND_DATA and law_or_default not in OF_CURVES
        runs = self._of(taken, own=not imports)
        kept = law_rows(runs, law_or_default, where)
        file = rows_file(Path(self.name), self._rows(kept, law_or_default))
        read = law_table(
            file,
            law_or_default,
            where=where,
            holdout=holdout if isinstance(holdout, str) else "none",
            over=options.get("over") or (),
        )
        held = read.holdout if isinstance(holdout, str | None) else holdout
        with naming_source(file.path, read.table):
            fitted = fit_law(read.table, law, holdout=held, **options)
        warned = fitted.warned(*self._run_warnings(runs, kept, taken), *read.diagnostics)
        return warned.made_from(law_inputs(self.name, runs, taken))

    def _of(self, experiments: set[str], *, own: bool) -> list[Run]:
        """The runs of some experiments; imported ones too unless they are to be its `own`."""
        runs = (*self.records.runs, *(() if own else self.records.imported))
        return [run for run in runs if run.is_of(*experiments)]

    def _rows(self, runs: Sequence[Run], law: str) -> list[dict[str, Any]]:
        """The rows of a law: of runs, or for the envelope the points of their curves."""
        if law != "envelope":
            return [as_row(run) | {"run": run.segment} for run in runs]
        wanted = {run.segment for run in runs}
        return [
            {"run": c.segment, "trunk": c.trunk, "params": c.params, "tokens": tokens, "loss": loss}
            for c in self.records.curves if c.segment in wanted
            for tokens, loss in zip(c.tokens.tolist(), c.loss.tolist(), strict=True)
        ]  # fmt: skip

    def _run_warnings(
        self, runs: Sequence[Run], kept: Sequence[Run], experiments: set[str]
    ) -> tuple[Diagnostic, ...]:
        """The warnings of the command: of data, missing runs and executions where there is a store.

        Args:
            runs: those of the experiments.
            kept: those of them that are fitted.
            experiments: by name.
        """
        found: tuple[Diagnostic, ...] = ()
        if self.study is not None:
            found = study_warnings(self.study, {run.segment for run in runs}, experiments)
        return (*found, *imported_diagnostics([run.source for run in kept]))

    def plot(self, *experiments: str) -> "Figures":
        """The figures of the findings, of all experiments or of some."""
        from windtunnel.plots import of_study

        return of_study(self, *experiments)

    def show(self, *experiments: str) -> None:
        """Show the findings in a notebook: what each found, its numbers, figures and warnings."""
        from windtunnel.plots import show

        show(self, *experiments)

    def __repr__(self) -> str:
        return "\n".join([f"Study {self.name}", *self._lines()])

    def _lines(self) -> list[str]:
        runs = self.records.runs
        sizes = dict.fromkeys(run.size for run in sorted(runs, key=lambda run: run.params))
        experiments = (f"{each.name} ({each.kind})" for each in self.config.experiments)
        ended = [run for run in runs if run.loss is not None]
        lines = [
            f"  experiments {', '.join(experiments)}",
            f"  sizes       {', '.join(sizes)}",
            f"  runs        {len(ended)} finished, {len(runs) - len(ended)} diverged, "
            f"{len(self.records.imported)} imported",
            f"  winners     {len(self.winners)} of {len(self.records.searches)} searches",
            f"  forecasts   {len(self.forecasts)} held-out runs",
        ]
        if self.study is not None:
            codes = dict.fromkeys(each.code for each in self.study.diagnostics)
            lines.append(f"  store       {self.study.store.root}")
            lines += [f"  warnings    {', '.join(codes)}"] if codes else []
        return lines


def open_study(source: Path | str | Records) -> OpenStudy:
    """A study file over its store, a folder of records, or records that `load_records` returned.

    Raises:
        ConfigError: The study file is wrong, or the folder holds no records.
        StoreError: A file of the store is damaged.
    """
    if isinstance(source, Records):
        return OpenStudy(source)
    path = Path(source)
    if path.is_dir():
        return OpenStudy(read_records(path))
    study = open_file(path)
    return OpenStudy(records_of(study), study)

"""`windtunnel predict` and `windtunnel optimum`: what a written fit says of a run or a budget."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from windtunnel.cli.fit_mixture import run_predict_mixture
from windtunnel.cli.fit_text import print_optimum, print_prediction, warning_codes
from windtunnel.cli.text import print_json
from windtunnel.errors import FitError
from windtunnel.laws import Fit, optimum, predict
from windtunnel.laws.codec import WRITE_ONE, optimum_document
from windtunnel.laws.mixture import MixtureFit
from windtunnel.laws.mixture.codec import is_mixture
from windtunnel.laws.mixture.result import of_document as mixture_of
from windtunnel.laws.result import of_document
from windtunnel.laws.schema import parse, plain, text_of


def read_fit(path: Path) -> Fit | MixtureFit:
    """The fit that `windtunnel fit --out` or `--json` wrote.

    Raises:
        ConfigError: No such file, or not a text.
        FitError: Not a fit, or of another version.
    """
    text = text_of(path, WRITE_ONE)
    with _of(path):
        content = parse(text, WRITE_ONE)
        return mixture_of(content) if is_mixture(content) else of_document(content)


def run_predict(
    path: Path, inputs: Mapping[str, float | None], weights: Sequence[str] = (), *, as_json: bool
) -> None:
    """Print the output at the given inputs, or shares of sources, with its prediction interval."""
    fitted = read_fit(path)
    given = {name: value for name, value in inputs.items() if value is not None}
    if isinstance(fitted, MixtureFit):
        if given:
            raise FitError(
                f"{path}: a mixture law holds for the size and the data it was fitted at, and does "
                f"not read {', '.join(given)}: give shares with --weight SOURCE=SHARE"
            )
        with _of(path):
            run_predict_mixture(fitted, weights, as_json=as_json)
        return
    if weights:
        raise FitError(
            f"{path}: law {fitted.law} reads no shares (--weight): it predicts from "
            f"{', '.join(fitted.form.inputs)}"
        )
    with _of(path):
        found = predict(fitted, **given)
    if not as_json:
        print_prediction(fitted, given, found)
        return
    print_json(
        plain(
            {
                "law": fitted.law,
                "inputs": given,
                fitted.form.output: found.value,
                "interval": [found.low, found.high],
                "level": fitted.level,
                "warnings": [warning.document() for warning in found.warnings],
                "fit_warnings": warning_codes(fitted),
            }
        )
    )


def run_optimum(path: Path, constraints: Mapping[str, float | None], *, as_json: bool) -> None:
    """Print the best split under the given constraints."""
    fitted = read_fit(path)
    if isinstance(fitted, MixtureFit):
        raise FitError(
            f"{path}: a mixture law splits no budget; its best mixture is in the file (`best`), "
            "and windtunnel predict FIT --weight SOURCE=SHARE says what any other would give"
        )
    with _of(path):
        best = optimum(fitted, **constraints)
    if as_json:
        warnings = [w.document() for w in dict.fromkeys((*best.warnings, *best.loss.warnings))]
        said = {"level": fitted.level, "warnings": warnings, "fit_warnings": warning_codes(fitted)}
        print_json(plain({**optimum_document(best), **said}))
    else:
        print_optimum(fitted, best)


@contextmanager
def _of(path: Path) -> Iterator[None]:
    """Name the file of a fit in what is wrong with it, or what it does not say."""
    try:
        yield
    except FitError as wrong:
        raise FitError(f"{path}: {wrong}") from None

"""The JSON schema of a written fit: composable checks, the digest, and the keys that are read.

A check takes a value and its place, such as `intervals.E.0`, and raises a FitError for a value that
is not allowed there. It changes nothing. A document has one key per line and a digest as its last
key, which reveals edits. docs/fit.md describes the keys.
"""

import hashlib
import json
import math
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.errors import (
    ConfigError,
    Diagnostic,
    FitError,
    Refused,
    WindtunnelError,
    boundary,
    did_you_mean,
)
from windtunnel.laws.chinchilla import Auto
from windtunnel.laws.forms import Formula


def plain(value: Any) -> Any:
    """The value as JSON data: infinities as text, nan as null, tuples as lists."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


Check = Callable[[Any, str], None]
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxdict, SHORT.maxlist, SHORT.maxstring = 2, 3, 4, 60
"""The form in which a message quotes a value."""


def text_of(path: Path, fix: str) -> str:
    """The text of an input file.

    Raises:
        ConfigError: There is none, or it is no UTF-8.
    """
    with boundary(path, fix, ConfigError, what="cannot be read"):
        try:
            return path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as broken:
            raise Refused(
                "not-utf8", f"no text in UTF-8 (its byte {broken.start})", byte=broken.start
            ) from None


def parse(
    text: str, fix: str, *, what: object = "not a fit", kind: type[WindtunnelError] = FitError
) -> Any:
    """The value of a JSON text, without repeated keys or NaN.

    Raises:
        WindtunnelError: Of this `kind`: it is not whole JSON.
    """
    with boundary(what, fix, kind, what="no JSON", code="not-json"):
        return json.loads(text, object_pairs_hook=keys_once, parse_constant=_no_number)


@contextmanager
def as_written(what: str, fix: str) -> Iterator[None]:
    """Report any failure of the body as a damaged `what`.

    Raises:
        FitError: With the place, where one is known.
    """
    with boundary(f"a damaged {what}", fix, FitError, code="damaged"):
        try:
            yield
        except FitError as wrong:
            raise Refused(wrong.code, str(wrong), **wrong.values) from None


def as_number(value: Any) -> float:
    """The number behind a JSON value: null is nan, and infinities are text."""
    return math.nan if value is None else float(value)


def anything(value: Any, place: str) -> None:
    """Any value."""


def flag(value: Any, place: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise refused("wrong-type", place, value, "true or false")


def text(value: Any, place: str) -> None:
    """Text."""
    if not isinstance(value, str):
        raise refused("wrong-type", place, value, "text")


def loose(value: Any, place: str) -> None:
    """A number, or its replacement where there is none."""
    if value is None or value in ("inf", "-inf") or math.isfinite(_float(value)):
        return
    raise refused("not-a-number", place, value, 'a number, "inf", "-inf" or null')


def number(low: float = -math.inf, high: float = math.inf, *, inside: bool = False) -> Check:
    """A finite number from `low` to `high`; with `inside`, strictly between."""

    def check(value: Any, place: str) -> None:
        measured = _float(value)
        is_number = math.isfinite(measured)
        if is_number and (low < measured < high if inside else low <= measured <= high):
            return
        ends = [f"{'above' if inside else 'at least'} {low:g}"] if low > -math.inf else []
        ends += [f"{'below' if inside else 'at most'} {high:g}"] if high < math.inf else []
        code = "out-of-range" if is_number else "not-a-number"
        raise refused(code, place, value, f"a number {' and '.join(ends)}".strip())

    return check


def whole(low: int = 0) -> Check:
    """A whole number of at least `low`."""

    def check(value: Any, place: str) -> None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not low <= _float(value):
            code = "out-of-range" if is_whole else "not-a-number"
            raise refused(code, place, value, f"a whole number, {low} or more")

    return check


def maybe(check: Check) -> Check:
    """A value that `check` accepts, or null."""

    def either(value: Any, place: str) -> None:
        if value is not None:
            check(value, place)

    return either


def listed(check: Check, *, count: int | None = None, least: int = 0) -> Check:
    """A list of values that `check` accepts, of `count` entries or at least `least`."""

    def many(value: Any, place: str) -> None:
        if not isinstance(value, list):
            raise refused("wrong-type", place, value, "a list")
        if count is not None and len(value) != count:
            raise FitError(
                "wrong-length",
                f"{place}: {len(value)} entries, allowed: {count}",
                place=place,
                length=len(value),
                allowed=count,
            )
        if len(value) < least:
            raise FitError(
                "wrong-length",
                f"{place}: {len(value)} entries, allowed: {least} or more",
                place=place,
                length=len(value),
                least=least,
            )
        for at, item in enumerate(value):
            check(item, f"{place}.{at}")

    return many


def named(
    check: Check, names: Collection[str] | None = None, *, among: Collection[str] | None = None
) -> Check:
    """An object of values that `check` accepts, with exactly `names`, some `among` them, or any."""

    def many(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise refused("wrong-type", place, value, "an object")
        for name in names or ():
            _require(value, name, place, names or ())
        allowed = among if names is None else names
        for name, item in value.items():
            if allowed is not None and name not in allowed:
                hint = did_you_mean(name, allowed)
                raise FitError(
                    "unknown-key",
                    f"{_at(place, name)}: allowed are {', '.join(allowed)}{hint}",
                    key=_at(place, name),
                    known=list(allowed),
                )
            check(item, _at(place, name))

    return many


def fields(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these keys; unknown keys are ignored, since a newer version may write more."""
    known = {**required, **(optional or {})}

    def record(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise refused("wrong-type", place, value, "an object")
        for name in required:
            _require(value, name, place, known)
        for name, check in known.items():
            if name in value:
                check(value[name], _at(place, name))

    return record


def span(check: Check = loose) -> Check:
    """[low, high] in this order."""
    pair = listed(check, count=2)

    def ordered(value: Any, place: str) -> None:
        pair(value, place)
        low, high = (as_number(end) for end in value)
        if low > high:
            raise FitError(
                "out-of-order",
                f"{place}: low = {low:g} lies above high = {high:g}",
                place=place,
                low=low,
                high=high,
            )

    return ordered


def refused(code: str, place: str, value: Any, allowed: str) -> FitError:
    """The error to raise for a value that is not allowed at its place."""
    place, shown = place or "the document", SHORT.repr(value)
    return FitError(
        code, f"{place}: {shown}, allowed: {allowed}", place=place, value=shown, allowed=allowed
    )


def wrong_version(what: str, found: object, reads: int) -> FitError:
    """The error to raise for a document of another schema version than this package reads."""
    is_later = isinstance(found, int) and found > reads
    return FitError(
        "later-version" if is_later else "unknown-version",
        f"{what} schema {found!r:.60}: this version reads {reads}; fit the table again",
        schema=SHORT.repr(found),
        reads=reads,
    )


def read_warnings(written: list[dict[str, Any]]) -> tuple[Diagnostic, ...]:
    """The warnings of a written fit; files of version 0.1 have no values."""
    return tuple(
        Diagnostic(warning["code"], warning["message"], **warning.get("values", {}))
        for warning in written
    )


def _require(value: dict[str, Any], name: str, place: str, known: Collection[str]) -> None:
    if name not in value:
        unknown = [key for key in value if key not in known]
        hint = did_you_mean(name, unknown).replace("did you mean", "is it")
        raise FitError("missing-key", f"{_at(place, name)}: is missing{hint}", key=_at(place, name))


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _float(value: Any) -> float:
    """The JSON number as a float; nan for other values and for integers too large for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for `object_pairs_hook`.

    Raises:
        ValueError: A key stands twice; plain JSON takes the last value in silence.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused("duplicate-key", f"key {twice!r} stands twice in one object", key=twice)
    return found


def _no_number(name: str) -> float:
    raise Refused("not-a-number", f"{name} is no number of JSON", value=name)


EDITED = Diagnostic(
    "edited-fit",
    "the file was changed by hand since it was written (its digest is that of another content), so "
    "that its numbers are not those of the fit: fit again, or put back what stood there",
)


def json_text(document: Mapping[str, Any], *, with_digest: bool = True) -> str:
    """The document as JSON text with one key per line."""
    content = {name: plain(value) for name, value in document.items()}
    if with_digest:
        content["digest"] = digest_of(content)
    lines = (
        f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}"
        for name, value in content.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def digest_of(content: Mapping[str, Any]) -> str:
    """A digest (16 hex digits) of a JSON document without its own `digest`."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_edited(content: Mapping[str, Any]) -> bool:
    """Whether a document was changed after it was written; always false without a digest."""
    return "digest" in content and content["digest"] != digest_of(content)


POSITIVE = number(0, inside=True)
LARGEST_LOG, SMALLEST_SPAN = 700.0, 1e-3
"""What exp still holds, and a width that numbers can be divided by."""
SHARE = number(0, 1)
LEVEL = number(0, 1, inside=True)
WARNINGS = listed(fields({"code": text, "message": text}, {"values": named(anything)}))
DROPPED = listed(fields({"reason": text, "rows": whole()}))
LEAVE_ONE_OUT = listed(fields({"label": text, "value_without": loose, "shift": loose}))
OF_ALLOCATION = ("a", "b", "ratio")
"""Further names of intervals, for a law that splits budgets."""

HOLDOUT = fields(
    {
        "what": text,
        "n": whole(),
        "trunks": whole(),
        "mean_relative_error": loose,
        "error": loose,
        "rms": loose,
        "low": loose,
        "high": loose,
        "inside": maybe(flag),
        "covered": maybe(SHARE),
        "by_group": named(loose),
        "naive": named(loose),
        "points": listed(listed(loose, count=4)),
    },
    {"baseline_p": named(loose)},
)
MISFIT = fields(
    {
        "middle": listed(number(-LARGEST_LOG, LARGEST_LOG), count=2),
        "span": listed(number(SMALLEST_SPAN, LARGEST_LOG), count=2),
        "knots": listed(listed(number(-1, 1)), count=2),
        "forms": listed(text, least=1),
        "widening": named(number(0, LARGEST_LOG), ("compute", "size")),
        "reach": number(SMALLEST_SPAN, LARGEST_LOG),
        "form": listed(whole()),
        "draws": listed(listed(number(-LARGEST_LOG, LARGEST_LOG))),
    }
)
READINGS = named(
    fields(
        {
            "flops": POSITIVE,
            "tokens": POSITIVE,
            "b": number(-LARGEST_LOG, LARGEST_LOG),
            "draws": listed(listed(number(-LARGEST_LOG, LARGEST_LOG), count=2), least=1),
        }
    )
)
"""Of `isoflop`: what `optimum` compares."""
COPY_TREND = fields(
    {
        "rows": whole(1),
        "before": whole(),
        "after": whole(),
        "highest": number(),
        "log_gain": number(-LARGEST_LOG, LARGEST_LOG),
        "middle": listed(number(-LARGEST_LOG, LARGEST_LOG), count=2),
        "powers": listed(number(-LARGEST_LOG, LARGEST_LOG), count=2),
    }
)
ANY_LAW = fields(
    {
        "n": whole(1),
        "n_trunks": whole(),
        "dropped": DROPPED,
        "columns": named(text),
        "filters": listed(text),
        "convention": fields({"params": text, "flop_factor": POSITIVE, "loss": text}),
        "objective": fields({"name": text, "delta": loose, "value": loose, "gradient_norm": loose}),
        "level": LEVEL,
        "method": text,
        "resamples_failed": whole(),
        "starts": whole(),
        "starts_agreeing": whole(),
        "converged": flag,
        "holdout": maybe(HOLDOUT),
        "influence": maybe(
            fields(
                {"quantity": text, "value": loose, "rows": LEAVE_ONE_OUT, "trunks": LEAVE_ONE_OUT}
            )
        ),
        "residuals": fields(
            {"rms_log": loose, "worst": listed(fields({"row": text, "residual": loose}))}
        ),
        "noise": fields(
            {
                "branch": loose,
                "trunk": loose,
                "seed": loose,
                "lack_of_fit_p": maybe(SHARE),
                "seeds_per_cell": listed(whole(), count=2),
            }
        ),
        "correlation": loose,
        "warnings": WARNINGS,
        "details": fields({}, {"readings": READINGS, "copy_gain": COPY_TREND}),
        "seed": whole(),
        "exact_rule": maybe(
            fields(
                {
                    "log_params": listed(number(), least=1),
                    "log_excess": listed(number(), least=1),
                    "flop_factor": POSITIVE,
                }
            )
        ),
    },
    # Fits of version 0.1 have no inputs, and others no second hold-out.
    {"inputs": named(text), "digest": text, "holdout_by_compute": HOLDOUT},
)


def check_fit(content: Any, law: type[Formula]) -> None:
    """Check the document of a fit of `law`.

    Raises:
        FitError: With the place, what stands there, and what is allowed.
    """
    names = law.names()
    ANY_LAW(content, "")
    _of_law(law, names)(content, "")
    for name, ends in content["domain"].items():
        low, high = ends
        if not (low * high > 0 and math.isfinite(low * high)):  # their middle on a log scale
            raise refused(
                "out-of-range", f"domain.{name}", ends, "numbers above 0 that a product can hold"
            )
    draws, noise = content["draws"], content["noise_draws"]
    if len(draws) != len(noise):
        raise FitError(
            "wrong-length",
            f"noise_draws: {len(noise)} entries, allowed: {len(draws)}, as many as in draws",
            place="noise_draws",
            length=len(noise),
            allowed=len(draws),
        )
    if law is Auto:
        _check_misfit(content)
    if content["starts_agreeing"] > content["starts"]:
        raise refused(
            "out-of-range",
            "starts_agreeing",
            content["starts_agreeing"],
            f"no more than {content['starts']} starts",
        )
    if (rule := content["exact_rule"]) is not None:
        if len(rule["log_excess"]) != len(rule["log_params"]):
            raise FitError(
                "wrong-length",
                "exact_rule.log_excess: allowed: as many entries as in log_params",
                place="exact_rule.log_excess",
                length=len(rule["log_excess"]),
                allowed=len(rule["log_params"]),
            )
        if any(low >= high for low, high in pairwise(rule["log_params"])):
            raise refused(
                "out-of-order", "exact_rule.log_params", rule["log_params"], "numbers that increase"
            )


def _check_misfit(content: dict[str, Any]) -> None:
    """Check the misfit of law `auto`: without it, forecasts would be of another law."""
    _require(content, "misfit", "", ("misfit",))
    misfit = content["misfit"]
    MISFIT(misfit, "misfit")
    for axis, knots in enumerate(misfit["knots"]):
        if any(low >= high for low, high in pairwise(knots)):
            raise refused("out-of-order", f"misfit.knots.{axis}", knots, "numbers that increase")
    width = 3 + sum(len(knots) for knots in misfit["knots"])
    count = len(content["draws"])
    for name in ("form", "draws"):
        if len(misfit[name]) != count:
            raise refused("wrong-length", f"misfit.{name}", misfit[name], f"{count} entries")
    for at, row in enumerate(misfit["draws"]):
        if len(row) != width:
            raise refused("wrong-length", f"misfit.draws.{at}", row, f"{width} entries")
    for at, form in enumerate(misfit["form"]):
        if form >= len(misfit["forms"]):
            place = f"misfit.form.{at}"
            raise refused("out-of-range", place, form, f"below {len(misfit['forms'])}")


def _of_law(law: type[Formula], names: tuple[str, ...]) -> Check:
    """Checks that depend on the law: its coefficients and its inputs."""
    allocates = ("flops", "ratio") if law.allocates else ()
    inputs = dict.fromkeys((*law.inputs, *allocates), span(POSITIVE))
    return fields(
        {
            "coefficients": named(number(), names),
            "scaled": fields({"coefficients": named(loose, names), "scales": named(loose)}),
            "intervals": named(span(), among=(*names, *OF_ALLOCATION)),
            "domain": _both(named(span(POSITIVE)), fields(inputs)),
            "draws": listed(listed(loose, count=len(names))),
            "noise_draws": listed(listed(loose, count=3)),
        }
    )


def _both(first: Check, second: Check) -> Check:
    def check(value: Any, place: str) -> None:
        first(value, place)
        second(value, place)

    return check

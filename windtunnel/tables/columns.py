"""The file's column for each column of a law, its unit, and columns derived by C = k N D."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from windtunnel.errors import ConfigError
from windtunnel.laws.table import Floats, name_words
from windtunnel.tables.check import is_perplexity, number
from windtunnel.tables.file import TableFile

RULE = MappingProxyType(
    {"tokens": ("flops", "params"), "params": ("flops", "tokens"), "flops": ("params", "tokens")}
)
"""The two columns from which C = k N D gives each of its three."""
SYNONYMS = MappingProxyType(
    {
        "params": "n, size, nparams, numparams, numparameters, parameters, modelsize, nonembedding",
        "tokens": "d, ntokens, numtokens, datasettokens, trainingtokens, traintokens, datasetsize, "
        "tokenstrained, tokensseen, totaltokens, seentokens",
        "loss": "l, valloss, validationloss, finalloss, evalloss, testloss, finalvalloss",
        "flops": "c, compute, flop, trainingflop, trainingflops, trainflops, totalflops",
        "lr": "learningrate, peaklr, lrpeak, maxlr, eta",
        "batch_tokens": "batchsize, globalbatch, tokensperbatch, tokensperstep, tokensperupdate",
        "unique_tokens": "uniquetokens, u, uniquedata, nuniquetokens, freshtokens, "
        "dunique, uniqued, tokensunique, uniqtokens, uniquetraintokens, uniquetrainingtokens, "
        "numuniquetokens, freshdata",
        "experts": "nexperts, numexperts, numberofexperts, expertcount, moeexperts",
        "sunk_tokens": "sunktokens, d1, densetokens, tokensdense, pretrainingtokens, sunk",
        "epochs": "epoch, nepochs, numepochs, trainepochs, dataepochs, passes, numtrainepochs, "
        "trainingepochs, totalepochs, repeats, nrepeats, numrepeats, repetitions, "
        "datarepetitions, numrepetitions, datarepeats, datapasses, numpasses, npasses",
    }
)
"""Other spellings of a column, in lower case and without spaces or punctuation."""
CHART = "__MIN"
"""The ending that W&B's chart export appends to a column's name."""


def flop_factor(rule: str) -> float:
    """The k of a FLOP rule such as `6ND`: training FLOPs per parameter and token.

    Raises:
        ConfigError: The rule has another form.
    """
    match = re.fullmatch(r"(.+?)\s*ND", rule.strip())
    value = number(match[1]) if match else None
    if value is None or not 0 < value < float("inf"):
        raise ConfigError(
            "wrong-flop-rule",
            f"FLOP rule {rule!r}: allowed is a positive number before ND, for example 6ND, or 2ND "
            "for a forward pass alone",
            rule=rule,
        )
    return value


def find_columns(
    table: TableFile, columns: Mapping[str, str], wanted: Sequence[str]
) -> dict[str, str]:
    """The file's columns by the law's names.

    Raises:
        ConfigError: A column named by the user does not exist.
    """
    for name, column in columns.items():
        if column != name and column not in table.columns:
            near = _nearest(column, table.own)
            hint = near if near.text else _synonym(name, table)
            raise ConfigError(
                "unknown-column",
                f"{table.path}: no column {column!r} for {name}. There are: {table.names}"
                f"{hint.text}",
                suggested=hint.column,
                path=table.path,
                column=column,
                name=name,
                known=table.own,
            )
    every = {name: columns.get(name, name) for name in (*wanted, *RULE, *columns)}
    return {name: column for name, column in every.items() if column in table.columns}


def plain_name(column: str, *, last: bool = True) -> str:
    """A column's name, or the last part of a dotted one, in small letters and digits alone."""
    parts = [part for part in re.split(r"[./]", column) if re.search(r"[A-Za-z0-9]", part)] or [""]
    return re.sub(r"[^a-z0-9]", "", (parts[-1] if last else column).lower())


def is_active(column: str) -> bool:
    """Whether a column counts the active parameters of a mixture of experts."""
    words = name_words(column)
    if re.search("expert|layer|head|activation", column.lower()):
        return False
    if "param" in column.lower():
        return "act" in words or "activ" in column.lower()
    short = plain_name(column) in {"nact", "actn", "nactive", "activen", "nactivated"}
    return short or ("size" in words and bool({"act", "active", "activated"} & {*words}))


def column_like(name: str, table: TableFile) -> str | None:
    """The file's column whose name is a known spelling of a law's column."""
    known = {name.replace("_", ""), *SYNONYMS.get(name, "").split(", ")}
    matches = [
        column
        for column in table.own
        if {plain_name(column, last=False), plain_name(column)} & known
    ]
    if name == "loss":  # beside a training loss, the validation loss
        matches.sort(key=lambda column: "train" in column.lower())
    return matches[0] if matches else None


class _Hint(NamedTuple):
    """The end of a message about a missing column, and the suggested column."""

    text: str = ""
    column: str | None = None


def _did_you_mean(column: str | None) -> _Hint:
    return _Hint() if column is None else _Hint(f"; did you mean {column!r}?", column)


def _nearest(word: str, known: Collection[str]) -> _Hint:
    return _did_you_mean(next(iter(difflib.get_close_matches(word, known, n=1)), None))


def _synonym(name: str, table: TableFile, taken: Collection[str] = ()) -> _Hint:
    """A hint at a column for the law's `name` that no other column uses."""
    like = _params_column(table) if name == "params" else None
    like = like or column_like(name, table)
    if like is not None and like not in taken:
        return _did_you_mean(like)
    others = {column_like(other, table) for other in SYNONYMS if other != name}
    left = [column for column in table.own if column not in others and column not in taken]
    if name == "loss":
        if ppl := next(filter(is_perplexity, left), None):
            return _Hint(f"; column {ppl!r} is a perplexity: give its natural logarithm", ppl)
        if bits := next((c for c in left if re.search("bpb|bits_?per_?byte", c.lower())), None):
            return _did_you_mean(bits)
    return _nearest(name, left)


def _params_column(table: TableFile) -> str | None:
    """The parameter column that C = 6ND counts: active, without embeddings."""
    matches = []
    for column in table.own:
        name = plain_name(column)
        if not ("param" in name or is_active(column)) or re.search(
            r"hyper|per(?:param|layer|token|byte)", name
        ):
            continue
        bare = bool(re.search(r"no[nt]?emb", name))
        total = bool(re.search(r"total|^all", name)) or ("emb" in name and not bare)
        matches.append(((not is_active(column), total, not bare), column))
    return min(matches, key=lambda each: each[0])[1] if matches else None


def scaled(table: TableFile, names: Mapping[str, str], scale: Mapping[str, float]) -> TableFile:
    """The table with some columns multiplied; columns are named as the law or the file does.

    Raises:
        ConfigError: No such column, or a factor that is not above 0.
    """
    columns = dict(table.columns)
    done: set[str] = set()
    for name, by in scale.items():
        column = names.get(name, name)
        if column in done:
            raise ConfigError(
                "contradicting-options",
                f"factor {by:g} of {name}: column {column!r} is given twice",
                name=name,
                column=column,
                factor=by,
            )
        done.add(column)
        if column not in columns:
            hint = _nearest(name, [*names, *table.own])
            raise ConfigError(
                "unknown-column",
                f"factor {by:g} of {name}: {table.path} has no column {name!r}. There are: "
                f"{table.names}{hint.text}",
                path=table.path,
                column=name,
                known=table.own,
                suggested=hint.column,
            )
        if not 0 < by < float("inf"):
            raise ConfigError(
                "out-of-range",
                f"factor {by:g} of {name}: allowed is a positive number, such as 1e9",
                name=name,
                factor=by,
            )
        # Fifteen digits, so that 0.07 billions are exactly 7e7 parameters.
        columns[column] = [
            cell if (value := number(cell)) is None else float(f"{value * by:.15g}")
            for cell in columns[column]
        ]
    return replace(table, columns=columns)


def plan_columns(
    table: TableFile, names: Mapping[str, str], columns: Mapping[str, str], needs: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The columns to derive, and the file's columns to read.

    Raises:
        ConfigError: A needed column neither exists nor can be derived.
    """
    derived = [
        name
        for name in needs
        if name not in names and all(each in names for each in RULE.get(name, ("",)))
    ]
    for name in needs:
        if name in names or name in derived:
            continue
        taken = frozenset(names.values())
        hint, near = "", _synonym(name, table, taken)
        if name == "tokens" and "flops" not in names:
            hint = ", or compute with --flops COL to derive them"
            near = near if near.text else _synonym("flops", table, taken)
        if any(column.endswith(CHART) for column in table.own):
            near = _Hint("; this is W&B's export of a chart: export the table of runs instead")
        raise ConfigError(
            "unknown-column",
            f"{table.path}: no column {columns.get(name, name)!r}: name the column of {name} with "
            f"--{name.replace('_', '-')} COL{hint}. There are: {table.names}{near.text}",
            suggested=near.column,
            path=table.path,
            column=columns.get(name, name),
            name=name,
            known=table.own,
        )
    inputs = [each for name in derived for each in RULE[name]]
    return derived, list(dict.fromkeys(name for name in (*needs, *inputs) if name in names))


def derive(name: str, values: Mapping[str, Floats], factor: float) -> Floats:
    """One of params, tokens and flops from the other two."""
    first, second = (values[each] for each in RULE[name])
    return factor * first * second if name == "flops" else first / (factor * second)


def formula(name: str, factor: float) -> str:
    """The equation of `derive`."""
    first, second = RULE[name]
    if name == "flops":
        return f"{factor:g} {first} {second}"
    return f"{first} / ({factor:g} {second})"

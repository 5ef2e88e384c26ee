"""`windtunnel init`: the commented study file to start from, for a given corpus and sizes."""

import json
import math
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from windtunnel.errors import ConfigError, Refused

if TYPE_CHECKING:
    from windtunnel.config.units import Size

HEAD_DIM = 16
"""Head dimension of the templates."""

TARGET = "2.4B:1T"
"""Params and tokens of the example."""

FEWEST_SIZES = 4
"""Three sizes and a fourth, which is forecast from them."""

SEARCH_TOKENS, SEARCH_RATIO = 4e5, 10
"""Length of a trial in the templates, and the tokens per param that it has at least."""

BATCH_TOKENS = 1024
"""Batch of the templates at that length."""

SIZES = {
    "template.yaml": "32x3,48x3,64x3,80x3,96x3",
    "template_full.yaml": "32x3,48x3,64x3,80x3,96x3,128x3",
}
NAMES = {"template.yaml": "my-study", "template_full.yaml": "my-recipe"}


def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("hparams.yaml"),
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Corpus: a file, a folder or a builtin. The study is named after it.",
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="WxD,...", help="Sizes of the models, such as 32x3,48x3,64x3,96x3."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="PARAMS[:TOKENS]",
            help="The run that you plan, such as 2.4B:1T or 2.4B:20N; the study answers for it.",
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="From search to recipe: search, transfer over width, length and batch, law and "
            "forecast, each taking its recipe from the search.",
        ),
    ] = False,
) -> None:
    """Write a commented study file to start from."""
    name = "template_full.yaml" if full else "template.yaml"
    write_template(file, name, data=data, sizes=sizes, target=target)
    print(f"wrote {file}\nnext: windtunnel data {file}, then windtunnel plan {file}")


def write_template(
    file: Path,
    name: str = "template.yaml",
    *,
    data: str | None = None,
    sizes: str | None = None,
    target: str | None = None,
) -> None:
    """Write a template, with the path of the JSON Schema for editors.

    Args:
        file: Where it is written.
        name: The template.
        data: The corpus, relative to the working directory; None: builtin text.
        sizes: Sizes joined by commas; None: those of the template.
        target: Params of the planned run, and its tokens after a colon; None: a comment instead.

    Raises:
        ConfigError: The file exists already or cannot be written, or sizes that no study takes.
        DataError: The corpus is missing, or holds nothing that can be read.
    """
    ladder = _sizes(SIZES[name] if sizes is None else sizes)
    factor = _factor(ladder[0])
    source, study = ("builtin:docs", NAMES[name]) if data is None else _corpus(data, file)
    below = ladder[:-1] if name == "template_full.yaml" else ladder
    some = [below[0], below[len(below) // 2], below[-1]]
    template = files("windtunnel.cli").joinpath(name).read_text(encoding="utf-8")
    filled = {
        "SCHEMA": str(files("windtunnel.config").joinpath("study.schema.json")),
        "STUDY": study,
        "SOURCE": source,
        "BASE": str(ladder[0].width),
        "BATCH": str(_batch(factor)),
        "SMALLEST": str(ladder[0]),
        "TARGET": _target(target),
        "LARGEST": str(ladder[-1]),
        "SOME_SIZES": ", ".join(map(str, some)),
        "LADDER": ", ".join(map(str, below)),
        "SIZES": ", ".join(map(str, ladder)),
    }
    text = re.sub(r"\b[A-Z_]{4,}\b", lambda found: filled.get(found[0], found[0]), template)
    _write(file, _lengthened(text, factor))


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise ConfigError(
            "file-exists",
            f"{file}: is there already; name another file, or move this one away",
            path=file,
        ) from None
    except OSError as refused:
        raise ConfigError(
            "cannot-write",
            f"{file}: cannot be written: {refused.strerror}; name a file in a folder that exists "
            "and that you may write to",
            path=file,
            cause=refused.strerror,
        ) from None


def _sizes(text: str) -> "list[Size]":
    """The sizes of a list joined by commas, smallest first.

    Raises:
        ConfigError: One is no size, its width takes no whole heads, or there are too few.
    """
    from windtunnel.config.units import Size

    example = f"for example --sizes {SIZES['template.yaml']}"
    try:
        sizes = {Size.parse(part.strip()) for part in text.split(",")}
    except Refused as refused:
        raise ConfigError(
            refused.code, f"--sizes: {refused}; {example}", **refused.values
        ) from None
    for size in sizes:
        if size.depth is None:
            raise ConfigError(
                "not-a-size", f"--sizes: {size} has no depth; {example}", value=str(size)
            )
        if size.width % HEAD_DIM:
            raise ConfigError(
                "not-a-multiple",
                f"--sizes: {size} is not a multiple of head_dim = {HEAD_DIM} wide; {example}",
                value=str(size),
                head_dim=HEAD_DIM,
            )
    if len(sizes) < FEWEST_SIZES:
        raise ConfigError(
            "too-few-values",
            f"--sizes {text}: the largest size is forecast from three smaller ones, so give "
            f"{FEWEST_SIZES} or more; {example}",
            value=text,
            least=FEWEST_SIZES,
        )
    return sorted(sizes, key=lambda size: (size.width**2 * (size.depth or 0), size.width))


def _target(text: str | None) -> str:
    """The line of the study file with the planned run; a comment without one.

    Raises:
        ConfigError: No counts.
    """
    from windtunnel.config.target import TargetConfig

    params, colon, tokens = (text or TARGET).partition(":")
    fields = {"params": params.strip()} | ({"tokens": tokens.strip()} if colon else {})
    try:
        TargetConfig.model_validate(fields)
    except ValueError:
        raise ConfigError(
            "not-a-target",
            f"--target {text}: write params, or params and tokens, for example --target {TARGET} "
            f"or --target 2.4B:20N",
            value=text,
            example=TARGET,
        ) from None
    line = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return ("" if text else "# ") + f"target: {{{line}}}"


def _corpus(data: str, file: Path) -> tuple[str, str]:
    """Path of a corpus, relative to the study file, and a name of the study, both as YAML.

    Raises:
        DataError: It is missing, or holds nothing that can be read.
        ConfigError: An unknown builtin.
    """
    from windtunnel.config.data import SourceConfig
    from windtunnel.data import Source
    from windtunnel.data.files import source_files

    if data.startswith("builtin:"):
        Source(name="data", path=data)
        return data, _study_name(SourceConfig(path=data).label)
    path = Path(data).expanduser()
    if not path.exists():
        raise ConfigError(
            "missing-file",
            f"--data {data}: no such file or folder; give the path of your text from the folder "
            "that you are in, for example --data corpus/, or --data builtin:docs",
            option="--data",
            path=path,
        )
    source_files(Source(name="data", path=str(path.absolute())))
    if file.resolve().is_relative_to(path.resolve()):
        raise ConfigError(
            "is-an-input",
            f"{file}: lies in the corpus {data}, and so would its store; name a file elsewhere, "
            f"for example {path.resolve().parent / 'hparams.yaml'}",
            path=file,
            input=path,
        )
    name = _study_name(path.resolve().name)
    written = str(path) if path.is_absolute() else os.path.relpath(path, file.parent)
    return _scalar(written), name


def _study_name(text: str) -> str:
    """A name of a study after a folder or a file."""
    stem = text.partition(".")[0] or text
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("_-")[:80]
    return _scalar(name or NAMES["template.yaml"])


def _scalar(text: str) -> str:
    """A text as YAML, quoted where it could be read as something else."""
    is_plain = re.fullmatch(r"[A-Za-z/.][A-Za-z0-9/._-]*", text)
    is_word = text.lower() in {"true", "false", "null"}
    return text if is_plain and not is_word else json.dumps(text, ensure_ascii=False)


def _lengthened(text: str, factor: float) -> str:
    """The text with token counts that are `factor` times as long; quoted examples stay."""
    if factor <= 1:
        return text
    return re.sub(
        r"(?<!')\b([0-9.]+e[0-9]+) tokens",
        lambda found: f"{float(found[1]) * factor:.3g} tokens".replace("e+0", "e"),
        text,
    )


def _factor(smallest: "Size") -> float:
    """How many times as long as in the template the trials of the smallest size are; 1 or more."""
    from windtunnel.config.model import ModelFamily

    family = ModelFamily(sizes=(smallest,), head_dim=HEAD_DIM, context=128)
    params = family.spec(smallest, vocab_size=256).params
    return max(1.0, float(f"{SEARCH_RATIO * params / SEARCH_TOKENS:.2g}"))


def _batch(factor: float) -> int:
    """Batch in tokens, a power of two: the best one grows with tokens to the power 0.571.

    Step Law, arXiv 2503.04715.
    """
    power: int = 2 ** round(0.571 * math.log2(factor))
    return BATCH_TOKENS * power

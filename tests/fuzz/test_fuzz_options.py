"""Odd values of options through every command that costs little: an answer, or what is allowed."""

import planted
import pytest
import typer

from windtunnel.cli.app import app

NUMBERS = (
    "0", "-1", "1", "nan", "inf", "-inf", "1e400", "1e-400", "1e308", "abc", "", " ", "1,5", "0x10",
    "99999999999999999999", "1e9", "2.4e9", "true", "٣",
)  # fmt: skip
WORDS = (
    "", " ", "law", "nobody", "params=1e6", "=", "a=", "=1", "loss=0", "E=nan", "E=1e999",
    "alpha=beta", "params>1", "params>nan", "x in", "'open", "loss==", "\0x", "größe", "../up", "~",
    "$HOME", "-", "words=2.3", "mean=2.3", "words=nan", "16x1", "9999999999x1", "x", "{}", "mup",
)  # fmt: skip
OPTIONS = {
    "fit": (
        ("{table}", "{study}"),
        ("--params", "--tokens", "--loss", "--flops", "--scale", "--flop-rule", "--where", "--fix",
         "--drop-highest", "--holdout", "--experiment", "--tie", "--objective", "--delta",
         "--intervals", "--seed", "--level", "--interpolate", "--target", "--law", "--trunk",
         "--over"),
    ),
    "predict": (
        ("{fit}",),
        ("--params", "--tokens", "--unique-tokens", "--flops", "--loss", "--x", "--weight"),
    ),
    "optimum": (
        ("{fit}",),
        ("--flops", "--params", "--tokens", "--tokens-per-param", "--unique-tokens"),
    ),
    "runs": (("{study}",), ()),
    "winner": (("{study}",), ()),
    "gc": (("{study}",), ()),
    "import-runs": (
        ("{study}",),
        ("--params", "--tokens", "--loss", "--decayed", "--scale", "--unit", "--experiment",
         "--where", "--exclude", "--remove", "--format", "--loss-of", "--flops", "--lr"),
    ),
    "export": (
        ("{study}",),
        ("--params", "--shape", "--flops", "--tokens", "--tokens-per-param", "--batch-tokens",
         "--lr-rule", "--winner", "--experiment", "--accept", "--segment", "--fit", "--model"),
    ),
    "ui": (("{study}",), ()),
}  # fmt: skip
NEEDED = {
    "import-runs": (["{table}", "--dry-run"], ["--list"], []),
    "export": (["--to", "json", "--out", "{new}"], ["--to", "nobody", "--out", "{table}"]),
    "ui": (["--port", "70000"], ["--port", "-1"], ["--port", "a"]),
}
"""What a command is given besides, so that its options come to matter."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A finished study, its table of runs and its fit."""
    folder = tmp_path_factory.mktemp("options")
    study = planted.make_study(folder)
    planted.fill(study)
    table = folder / "runs.csv"
    rng = planted.np.random.default_rng(1)
    lines = ["params,tokens,loss,flops,decayed,run"]
    for number, (params, ratio) in enumerate((n, r) for n in (1e6, 1e7, 1e8) for r in (10, 20, 40)):
        loss = float(planted.LAW(params, params * ratio)) * (1 + 0.001 * rng.normal())
        flops = 6 * params * params * ratio
        lines.append(f"{params:g},{params * ratio:g},{loss},{flops},true,{number}")
    table.write_text("\n".join(lines) + "\n")
    return {"study": study.file, "table": table, "fit": folder / "fit.json", "new": folder / "new"}


def test_every_option_named_here_exists():
    from typer.main import get_command

    root = get_command(app)
    for name, (_, options) in OPTIONS.items():
        command = root.get_command(typer.Context(root), name)
        known = {each for option in command.params for each in option.opts}
        assert set(options) <= known, name


@pytest.mark.medium
def test_odd_options_are_answered_or_refused(cases, command, files):
    assert command("fit", "fit", files["table"], "--bootstrap", "60", "--out", files["fit"])[0] == 0
    answered = refused = 0
    places = {f"{{{name}}}": path for name, path in files.items()}
    for number, draw in enumerate(cases("options")):
        name = draw.choice(list(OPTIONS))
        sources, options = OPTIONS[name]
        arguments = [draw.choice(sources), *draw.choice(NEEDED.get(name, ([],)))]
        for option in draw.sample(options, min(len(options), draw.randint(0, 3))):
            arguments += [option, draw.choice((draw.choice(NUMBERS), draw.choice(WORDS)))]
        if name in {"fit", "predict", "optimum", "runs", "winner", "gc"} and draw.random() < 0.3:
            arguments.append("--json")
        if name == "fit":
            arguments += ["--bootstrap", "0"]
        filled = [name, *(str(places.get(each, each)) for each in arguments)]
        if any("\0" in each for each in filled):
            continue  # no command line holds one
        code, output, error = command(f"case {number}", *filled)
        answered += code == 0
        refused += code != 0
        assert code in {0, 2}, (filled, error)
        assert "nan" not in output.replace("nan-", "").lower().split(), (filled, output)
    assert answered
    assert refused

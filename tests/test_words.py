"""Retired words stay retired: in names, commands, messages and headings, and the glossary is true.

Each list maps a retired word to the word that replaced it. `ALLOWED` lists names that still wait
for a rename; it may only shrink.
"""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "windtunnel"
FILES = sorted(PACKAGE.rglob("*.py"))

MODULES = {
    "ahead": "estimate", "answers": "optima", "asked": "request", "beside": "style",
    "canvas": "drawing", "catching_up": "overtraining", "choice": "selection",
    "companions": "request", "course": "curves", "derive": "recipe", "fitted": "fits",
    "folders": "artifacts", "garbage": "gc", "growth": "scheduler", "identify": "identifiability",
    "json_file": "json", "leftovers": "gc", "lines": "json_lines", "marks": "loss mask",
    "measuring": "evaluator", "naive": "baselines", "overhead": "timing", "parametrization": "mup",
    "pin": "data_lock", "plain": "json", "reach": "convex hull", "reading": "registry",
    "retention": "gc", "rungs": "asha", "scores": "ranking", "shares": "mixture weights",
    "sheet": "drawing", "spec": "config", "staged": "two_step", "stages": "two_step",
    "staging": "two_step", "strict": "model", "surfaces": "models", "trials": "runs",
    "turns": "streams", "uncertainty": "bootstrap", "verdict": "forecast", "way_rows": "variants",
    "wording": "errors", "written": "units",
}  # fmt: skip
"""Retired as the name of a module or package of `windtunnel/`."""

NAMES = {
    "asked": "requested", "carried": "transferred", "course": "curve", "ground": "study context",
    "hands": "worker factory", "pull": "influence", "said": "text", "told": "shown",
    "turns": "changes_data", "valley": "LR curve", "valleys": "LR curves",
    "warned": "with_warnings", "way": "variant", "ways": "variants",
}  # fmt: skip
"""Retired in names of classes, functions and parameters; in sentences they are English."""

WORDS = {
    "caution": "warning", "cautions": "warnings", "contest": "comparison", "doubt": "warning",
    "doubts": "warnings", "gang": "data-parallel", "hindsight": "utilisation",
    "leftover": "scratch file", "leftovers": "scratch files", "ledger": "store view",
    "mirroring": "tracking", "naive": "baseline", "outlook": "estimate", "pace": "throughput",
    "patience": "actor reuse", "patient": "actor reuse", "peers": "followers",
    "premises": "preflight", "reaper": "orphan cleanup", "residue": "contamination",
    "spool": "spill file", "staged": "two-step", "upkeep": "callbacks",
    "workbench": "worker context", "workorder": "worker config",
}  # fmt: skip
"""Retired in names, help texts, messages of errors and warnings, and headings."""

CODES = {
    "checksum-mismatch": "wrong-checksum", "cut-off": "wrong-size", "damaged-checkpoint": "damaged",
    "damaged-file": "damaged", "empty-range": "out-of-order", "few-widths": "too-few-widths",
    "file-too-large": "too-large", "invalid-shape": "invalid-value", "invalid-yaml": "not-yaml",
    "is-a-folder": "not-a-file", "kernel-needs": "kernels-cannot-run",
    "no-column": "incomplete-condition", "no-operator": "incomplete-condition",
    "no-scaling-experiment": "no-experiment", "no-search": "no-experiment",
    "no-value": "incomplete-condition", "not-a-divisor": "not-a-multiple",
    "not-a-flag": "not-a-boolean", "not-increasing": "out-of-order", "not-utf-8": "not-utf8",
    "repeated-column": "duplicate-column", "repeated-key": "duplicate-key",
    "repeated-name": "duplicate-name", "short-horizon": "too-few-updates",
    "stage-too-short": "too-few-updates", "unknown-option": "unknown-value",
    "unusable-width": "invalid-value", "wrong-cell-count": "ragged-row",
}  # fmt: skip
"""Second codes of one meaning, each with the code that stayed."""

ALLOWED_MODULES = {"runs/budget/timing", "runs/search/trials"}
"""Retired as the name of another room; these mean what they say."""

ALLOWED: dict[str, str] = {
    "cli/fit_rows": "_mixtures_told_apart",
    "export/build": "asked",
    "export/fits": "asked said",
    "export/handoff": "Warned",
    "export/recipe": "asked",
    "export/size": "_asked_model _asked_tokens asked",
    "findings/adaptation": "Course _told _warned course course_of",
    "findings/base": "said",
    "findings/branches": "way ways",
    "findings/dynamics": "said",
    "findings/lr_curves": "Carried Valley Valleys _said _valley carried valley valleys valleys_of",
    "findings/lr_transfer": "carried",
    "findings/ranking": "_warned",
    "findings/scaling_law": "_said _said_of_ratio",
    "findings/schedules": "ways",
    "findings/variants": "Way Ways _way ways ways_of",
    "laws/mixture/result": "warned",
    "laws/result": "warned",
    "report/figures/branches": "course way",
    "report/figures/fit_two_step": "_Valley _valleys lr_valley valleys",
    "report/figures/forecast": "_naive",
    "report/figures/lr": "_valley _valleys valley",
    "report/page": "compares_ways",
    "runs/forecast": "naive",
}
"""Names in rooms that are still to be renamed, by module."""


@pytest.fixture(scope="module")
def places():
    """Every error and warning of the package, as on docs/codes.md."""
    path = ROOT / "tools" / "codes_page.py"
    loaded = importlib.util.spec_from_file_location("codes_page", path)
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module.survey().places


def words_of(text):
    """Lower-case words of a sentence, or of a name in snake_case or CamelCase."""
    return [each.lower() for each in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)]


def retired(text, *lists):
    """The retired words of a text or name, each with its replacement."""
    known = {word: new for each in lists for word, new in each.items()}
    return {word: known[word] for word in (*words_of(text), text.lower()) if word in known}


def names():
    """Every name of a class, function or parameter, with its module."""
    for path in FILES:
        module = path.relative_to(PACKAGE).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield module, node.name
            if isinstance(node, ast.FunctionDef):
                arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                yield from ((module, each.arg) for each in arguments)


def help_texts():
    """Every help text of a command or an option, with the command."""
    import typer

    from windtunnel.cli.app import app

    def walk(command, path):
        yield path, command.help or ""
        yield from ((path, getattr(each, "help", None) or "") for each in command.params)
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{path} {name}".strip())

    return walk(typer.main.get_command(app), "")


def headings():
    """Every heading of the documentation, with its page."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
        yield from ((page.name, line) for line in re.findall(r"(?m)^#+ (.*)", text))


def test_no_module_has_a_retired_name():
    found = {
        module: new
        for path in FILES
        if (module := path.relative_to(PACKAGE).with_suffix("").as_posix()) not in ALLOWED_MODULES
        for part in module.split("/")
        if (new := {**MODULES, **WORDS}.get(part))
    }
    assert found == {}


def test_no_name_holds_a_retired_word():
    found = {
        f"{module}: {name}": new
        for module, name in names()
        if (new := retired(name, NAMES, WORDS)) and name not in ALLOWED.get(module, "").split()
    }
    assert found == {}


def test_no_message_holds_a_retired_word(places):
    assert {each: new for each in places if (new := retired(each.message, WORDS))} == {}


def test_a_meaning_has_one_code(places):
    codes = {each.code for each in places}
    assert {code: new for code, new in CODES.items() if code in codes} == {}
    assert set(CODES.values()) <= codes


def test_no_help_text_holds_a_retired_word():
    assert {each: new for each in help_texts() if (new := retired(each[1], WORDS))} == {}


def test_no_heading_holds_a_retired_word():
    assert {each: new for each in headings() if (new := retired(each[1], WORDS))} == {}


def test_a_retired_word_is_found():
    assert retired("start_gang", WORDS) == {"gang": "data-parallel"}
    assert retired("WorkOrder", WORDS) == {"workorder": "worker config"}
    assert retired("count_ways", NAMES) == {"ways": "variants"}
    assert retired("always", NAMES) == {}


def glossary():
    """Rows of the glossary: term, meaning, where."""
    page = (ROOT / "docs" / "glossary.md").read_text()
    rows = re.findall(r"(?m)^\| (.+?) \| (.+) \| (.+?) \|$", page)
    return [row for row in rows if row[0] not in {"term", "---"}]


def test_the_glossary_names_files_that_are_there():
    assert [row for row in glossary() if not (PACKAGE / row[2].strip("`")).is_file()] == []


def test_the_glossary_has_each_term_once_and_no_retired_word():
    terms = [term for term, _, _ in glossary()]
    assert len(terms) > 40
    assert len(set(terms)) == len(terms)
    assert {term: new for term in terms if (new := retired(term, WORDS))} == {}


def test_every_meaning_is_one_sentence():
    assert [term for term, meaning, _ in glossary() if not meaning.endswith(".")] == []

"""Notebooks: the pair of each agrees, is committed with outputs, and runs from top to bottom."""

import ast
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = ("fit", "transfer", "dynamics", "branches")
MODULES = {"pandas", "windtunnel"}
LARGEST_BYTES = 2_500_000


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def outputs_of(notebook):
    return [each for cell in notebook.cells for each in cell.get("outputs", ())]


def figures_of(notebook):
    return [each for each in outputs_of(notebook) if "image/png" in each.get("data", {})]


def execute(notebook):
    place = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=200, kernel_name="python3", resources=place).execute()
    return notebook


def test_every_notebook_is_tested():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)
    assert {path.stem for path in FOLDER.glob("*.py")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_pair_agrees(name):
    """`make notebooks` makes it so."""
    script = jupytext.read(FOLDER / f"{name}.py")
    sources = [[(c.cell_type, c.source) for c in each.cells] for each in (read(name), script)]
    assert sources[0] == sources[1]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_committed_with_outputs(name):
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(figures_of(notebook)) >= 3
    assert not [each for each in outputs_of(notebook) if each.output_type in {"error", "stream"}
                and each.get("name") != "stdout"]  # fmt: skip
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST_BYTES
    assert re.match(r"# \S", notebook.cells[0].source)


@pytest.mark.parametrize("name", NAMES)
def test_it_imports_two_modules_at_most(name):
    text = (FOLDER / f"{name}.py").read_text()
    imports = [each for each in ast.walk(ast.parse(text))
               if isinstance(each, ast.Import | ast.ImportFrom)]  # fmt: skip
    assert {each.names[0].name for each in imports} <= MODULES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_top_to_bottom(name):
    """On a fresh clone: from the records that lie beside the experiments."""
    committed = read(name)
    figures = len(figures_of(committed))
    assert len(figures_of(execute(committed))) == figures


OWN = """
OWN = windtunnel.open_study("../experiments/015-mixture-law/records")
FORGETTING = ROUTES = LENGTHS = STAGES = CANDIDATES = LONGER = None
MIXTURES = OWN, ["design"]
TARGET = {"code": 1}
SHARES = {"docs": 0.5, "code": 0.5}
"""


@pytest.mark.slow
def test_branches_shows_another_study_by_changing_one_cell():
    notebook = read("branches")
    (named,) = (cell for cell in notebook.cells if "ADAPTATION = " in cell.source)
    named.source = OWN
    execute(notebook)
    texts = [
        each.get("text") or each["data"].get("text/plain", "") for each in outputs_of(notebook)
    ]
    assert sum(text == "This study has no such part.\n" for text in texts) == 6
    assert "doctests" in texts[-2]  # a source of the law
    assert "code" in texts[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("fit", 'STUDY = "../experiments/019-forecast-docs/records"\nEXPERIMENT = "constant"'),
        ("dynamics", 'STUDY = "../experiments/007-training-dynamics/records"\nSERIES = "d1"'),
    ],
)
def test_another_study_by_changing_one_cell(name, cell):
    notebook = read(name)
    (named,) = (each for each in notebook.cells if each.source.startswith("STUDY = "))
    rest = named.source.split("\n\n", 1)[1]
    named.source = f"{cell}\n\n{rest}"
    assert figures_of(execute(notebook))

"""Notebooks: the pair of each agrees, holds no outputs, and runs from top to bottom."""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = ("fit", "transfer", "dynamics", "branches")


def test_every_notebook_is_tested():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)
    assert {path.stem for path in FOLDER.glob("*.py")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_pair_agrees_and_holds_no_outputs(name):
    """`make notebooks` makes it so."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    script = jupytext.read(FOLDER / f"{name}.py")
    sources = [[(c.cell_type, c.source) for c in each.cells] for each in (notebook, script)]
    assert sources[0] == sources[1]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_top_to_bottom(name):
    """On a fresh clone: from the records that lie beside the experiments."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells)
    records = FOLDER / re.search(r'(?:RECORDS|EXPERIMENTS) = Path\("(.+)"\)', text)[1]
    if not records.exists():
        pytest.skip(f"{records.resolve().parent.name} has no records yet: run the experiment")
    place = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    shown = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type in {"display_data", "execute_result"}
    ]
    figures = [output for output in shown if "image/png" in output.data]
    assert len(figures) >= 3


OWN = """
OWN = read_records(Path("../experiments/015-mixture-law/records"))
FORGETTING = ROUTES = LENGTHS = STAGES = CANDIDATES = LONGER = None
MIXTURES = OWN, ["design"]
TARGET = {"code": 1}
SHARES = {"docs": 0.5, "code": 0.5}
"""


@pytest.mark.slow
def test_branches_shows_another_study_by_changing_one_cell():
    notebook = nbformat.read(FOLDER / "branches.ipynb", as_version=4)
    (named,) = (cell for cell in notebook.cells if "read_records(EXPERIMENTS" in cell.source)
    named.source = OWN
    place = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    shown = [
        output.get("text") or output["data"].get("text/plain", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    assert sum(text == "This study has no such part.\n" for text in shown) == 6
    assert "doctests" in shown[-2]  # a source of the law
    assert "code" in shown[-1]

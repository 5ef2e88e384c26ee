"""Take outputs and execution counts out of every notebook: the pairs in git hold sources alone."""

from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def main() -> None:
    """Rewrite the notebooks that have any."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        if any(cell.outputs or cell.execution_count for cell in cells):
            for cell in cells:
                cell.outputs, cell.execution_count = [], None
            nbformat.write(notebook, path)


if __name__ == "__main__":
    main()

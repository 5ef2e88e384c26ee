"""Run the notebooks from top to bottom and keep their outputs; all of them, or those named.

python tools/run_notebooks.py [NAME ...]
"""

import base64
import io
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


COLOURS = 96
"""Colours of a kept figure: a third of the bytes, and no difference to see."""


def smaller(png: str) -> str:
    """A PNG of few colours; both in base64."""
    text = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(text, format="PNG", optimize=True)
    return base64.b64encode(text.getvalue()).decode()


def main(names: list[str]) -> None:
    """Make each NAME.ipynb anew from NAME.py, with outputs."""
    for name in names or sorted(path.stem for path in NOTEBOOKS.glob("*.py")):
        notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"{name}-{number}"  # jupytext's are random, and would change every time
        place = {"metadata": {"path": str(NOTEBOOKS)}}
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times of day
            for output in cell.get("outputs", ()):
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = smaller(output.data["image/png"])
        nbformat.write(notebook, NOTEBOOKS / f"{name}.ipynb")
        print(f"wrote notebooks/{name}.ipynb")


if __name__ == "__main__":
    main(sys.argv[1:])

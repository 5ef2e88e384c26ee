"""Score every prediction against the committed records, print the table and write it to SCORES.md.

A prediction counts only if it was written first: its file's last commit must be an ancestor of the
commit that brought the records.
"""

import math
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantities import predicted_ids, quantities_of
from ruamel.yaml import YAML

from windtunnel.findings import Quantity, read_records

HERE = Path(__file__).resolve().parent
TABLE = HERE / "SCORES.md"

HEAD = """\
# Predictions and what came

Made by `python experiments/score.py` from the committed records and predictions; each prediction's
commit is an ancestor of its records' commit. `inside`: the measured value lies in the predicted
interval; `reaches out`, `reaches in`: it does, or does not, but its own interval crosses an end.
"""


CHANGED_AFTER = {
    "004-joint-lr-batch": "The delta of `power2` was changed after the result was known, and no "
    "verdict with it: the exponent in the size was -0.046 (-0.095 to 0.002).",
    "008-data-model-law": "The law was changed after the result was known, from `chinchilla` to "
    "`auto`: with the first, the interval without long horizons was 0.862 times as wide, outside.",
    "015-mixture-law": "The law was changed after the result was known: with the first, the rank "
    "on docs was 0.887 (0.738 to 0.97), outside, reaches in.",
    "022-upcycling": "Width 16 was added while the other widths ran, because the law asks for "
    "three sizes. Only a3 and the forecast after 80N read it.",
}
"""Analyses that are not those of the time of the prediction, and what they said."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A prediction and what was measured; `measured` is None where the records do not tell."""

    name: str
    unit: str
    low: float
    high: float
    measured: Quantity | None

    @property
    def what(self) -> str:
        """The quantity with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def verdict(self) -> str:
        """`inside` or `outside`, and whether the measured interval crosses an end."""
        if self.measured is None:
            return "not measured"
        inside = self.low <= self.measured.value <= self.high
        ends = (self.measured.low, self.measured.high)
        if None in ends:
            return "inside" if inside else "outside"
        low, high = (float(end) for end in ends if end is not None)
        if inside:
            return "inside" if self.low <= low and high <= self.high else "inside, reaches out"
        return "outside" if high < self.low or low > self.high else "outside, reaches in"


def scored(folder: Path) -> list[Scored]:
    """Every prediction of an experiment against its records."""
    text = (folder / "prediction.yaml").read_text(encoding="utf-8")
    by_id = quantities_of(folder.name, read_records(folder / "records"))
    ids = predicted_ids(folder.name)
    measured = {name: by_id[of] for name, of in ids.items() if of in by_id}
    return [_scored(each, measured) for each in YAML(typ="safe").load(text)["predictions"]]


def _scored(prediction: dict[str, Any], measured: dict[str, Quantity]) -> Scored:
    name = str(prediction["quantity"])
    return Scored(
        name=name,
        unit=str(prediction.get("unit", "")),
        low=float(prediction["low"]),
        high=float(prediction["high"]),
        measured=measured.get(name),
    )


def order_of_commits(folder: Path) -> str | None:
    """What is wrong with the order of prediction and records, or None; no history, no complaint."""
    predicted = _git("log", "-1", "--format=%H", "--", folder / "prediction.yaml")
    recorded = _git("log", "--diff-filter=A", "--format=%H", "--", folder / "records" / "runs.csv")
    if not predicted or not recorded:
        return None
    first = recorded.splitlines()[-1]
    ancestor = ["git", "-C", str(HERE), "merge-base", "--is-ancestor", predicted, first]
    if predicted == first or subprocess.run(ancestor, check=False).returncode:
        return f"{folder.name}: prediction.yaml ({predicted[:9]}) is not older than its records"
    return None


def _git(*arguments: object) -> str:
    command = ["git", "-C", str(HERE), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def page(tables: dict[str, list[Scored]]) -> str:
    """The page: a table an experiment, and how many predictions came true."""
    verdicts = Counter(each.verdict for rows in tables.values() for each in rows)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    parts = [HEAD, f"{sum(verdicts.values())} predictions: {counted}."]
    for name, rows in tables.items():
        parts += ["", f"## [{name}]({name}/README.md)", ""]
        parts += [CHANGED_AFTER[name], ""] if name in CHANGED_AFTER else []
        parts += ["| quantity | predicted | measured | |", "| --- | --- | --- | --- |"]
        parts += [
            f"| {each.what} | {each.low:g} to {each.high:g} | {_measured(each.measured)} | "
            f"{each.verdict} |"
            for each in rows
        ]
    return "\n".join(parts) + "\n"


def _measured(found: Quantity | None) -> str:
    if found is None:
        return "–"
    if math.isinf(found.value):
        return f"not reached, beyond {found.low:.3g}"
    if found.low is None or found.high is None:
        return f"{found.value:.3g}"
    return f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})"


def main() -> int:
    """Print and write the page; 1 where a prediction is younger than its records."""
    folders = [each.parent.parent for each in sorted(HERE.glob("[0-9]*/records/runs.csv"))]
    text = page({folder.name: scored(folder) for folder in folders})
    TABLE.write_text(text, encoding="utf-8")
    print(text)
    problems = [problem for folder in folders if (problem := order_of_commits(folder))]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

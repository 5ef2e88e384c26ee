"""Memory of a sweep while it runs: proportional set sizes of a process tree, read from /proc."""

import os
import threading
from collections import defaultdict
from pathlib import Path
from statistics import median

RAY = "Ray's own processes, together"


class Memory:
    """Proportional set sizes (PSS) of this process and its descendants, every second."""

    def __init__(self) -> None:
        self.of: dict[str, list[float]] = defaultdict(list)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._ended.set()
        self._thread.join()

    def summary(self) -> dict[str, dict[str, float]]:
        """Median and peak in MB: of a process of a kind, and of all of them together."""
        return {
            kind: {"median_mb": median(values), "peak_mb": max(values)}
            for kind, values in self.of.items()
        }

    def _sample(self) -> None:
        while not self._ended.wait(1.0):
            found = [(kind, _pss(pid)) for pid, kind in _tree().items()]
            for kind, pss in found:
                if kind != RAY and pss:
                    self.of[kind].append(pss)
            self.of[RAY].append(sum(pss for kind, pss in found if kind == RAY))
            self.of["everything, together"].append(sum(pss for _, pss in found))


def _tree() -> dict[int, str]:
    """This process and its descendants, each with its kind."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2]
            parents[int(folder.name)] = int(stat.split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended
            continue
    kinds = {os.getpid(): "driver"}
    grown = True
    while grown:
        fresh = [pid for pid, parent in parents.items() if parent in kinds and pid not in kinds]
        kinds |= {pid: _kind(titles.get(pid, "")) for pid in fresh}
        grown = bool(fresh)
    return kinds


def _kind(title: str) -> str:
    if title.startswith("ray::") and "Trainable" in title:
        return "trial worker"
    return "idle worker" if title.startswith("ray::IDLE") else RAY


def _pss(pid: int) -> float:
    """Megabytes; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("Pss:")), 0.0)

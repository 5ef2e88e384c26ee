"""Run the experiments, keep their records, score their predictions.

    python experiments/run.py            # all of them
    python experiments/run.py 003 006    # some

What has run is not run again: the same command goes on after an interruption.
"""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WINDTUNNEL = Path(sys.executable).with_name("windtunnel")
FAILED_CHECK = 3
"""Exit code of a coordinate check that fails, as the standard parametrization's should."""


def main(wanted: list[str]) -> int:
    """Run what begins with one of `wanted`, or everything; the first exit code that is not 0."""
    folders = [each.parent for each in sorted(HERE.glob("[0-9]*/hparams.yaml"))]
    if unknown := [name for name in wanted if not any(f.name.startswith(name) for f in folders)]:
        print(f"{unknown[0]}: no experiment; there are {', '.join(f.name for f in folders)}")
        return 2
    for folder in folders:
        if wanted and not any(folder.name.startswith(name) for name in wanted):
            continue
        began = time.monotonic()
        print(f"== {folder.name}", flush=True)
        if code := run(folder):
            return code
        print(f"== {folder.name}: {(time.monotonic() - began) / 60:.1f} min", flush=True)
    return subprocess.run([sys.executable, HERE / "score.py"], check=False).returncode


def run(folder: Path) -> int:
    """Sweep one experiment and write its records; the exit code of what failed, or 0."""
    study = folder / "hparams.yaml"
    if folder.name.endswith("coordinate-check"):
        for parametrization, allowed in (("mup", {0}), ("standard", {0, FAILED_CHECK})):
            code = windtunnel("check", "mup", study, "--parametrization", parametrization)
            if code not in allowed:
                return code
    return windtunnel("sweep", study) or windtunnel("records", study, "--out", folder / "records")


def windtunnel(*arguments: object) -> int:
    """The exit code of a command."""
    command = [str(each) for each in (WINDTUNNEL, *arguments)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # the sweep has said what to do
        sys.exit(130)

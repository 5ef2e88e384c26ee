"""Create a virtual environment and install windtunnel into it from the pinned constraints.

Uses only the standard library. A torch that the active environment already has is kept: the new
environment sees that environment's packages after its own, and torch's version is pinned to it.
"""

import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)


def main(folder: Path, *extras: str) -> None:
    """Create `folder` where it is missing and install the package with `extras`."""
    if sys.version_info < OLDEST:
        sys.exit(f"windtunnel needs Python 3.11 or newer; {sys.executable} is {sys.version[:6]}")
    if not (folder / "bin" / "python").exists():
        print(f"== creating {folder} with {sys.executable}", flush=True)
        create(folder)
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    if (kept := torch_at_hand()) is not None:
        version, site = kept
        print(f"== keeping torch {version} of {site}", flush=True)
        link(folder, site)
        constraints = [line for line in constraints if not line.startswith("torch==")]
        constraints.append(f"torch=={version}")
    print("== installing the pinned packages (about 1.5 GB without a torch at hand)", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        pinned = Path(scratch) / "constraints.txt"
        pinned.write_text("\n".join(constraints) + "\n")
        run(
            folder / "bin" / "python",
            *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *(
                "--constraint",
                pinned,
                "--editable",
                f"{ROOT}[{','.join(extras)}]" if extras else ROOT,
            ),
        )
    print(f"== ready: {folder / 'bin' / 'windtunnel'}", flush=True)


def create(folder: Path) -> None:
    """A virtual environment with pip; says what is missing where Debian has split it off."""
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            "this Python has no ensurepip, so no virtual environment can be made; "
            "on Debian: apt-get install python3-venv"
        )
    venv.create(folder, with_pip=True)


def torch_at_hand() -> tuple[str, Path] | None:
    """Version and site folder of the torch that the running Python sees, if any."""
    try:
        found = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    return found.version, Path(str(found.locate_file(""))).resolve()


def link(folder: Path, site: Path) -> None:
    """Let the environment see `site` after its own packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = folder / "lib" / version / "site-packages"
    if own.resolve() != site:
        (own / "_kept_torch.pth").write_text(f"{site}\n")


def run(*command: object) -> None:
    """Run a command and stop with its exit code if it fails."""
    done = subprocess.run([str(part) for part in command], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

"""A hook of MkDocs: mount every page of the repository at its own path.

docs/fit.md becomes docs/fit.html, README.md the start page, experiments/ its own folder, so that
a relative link between two files means the same on the site, on a forge and in an editor. In
mkdocs.yml, `experiments/` and `docs/adr/` stand for all pages of that folder, README.md first.
"""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
BESIDE_DOCS = (
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "experiments/**/*.md",
    "experiments/**/*.yaml",
    "notebooks/*.ipynb",
    "windtunnel/export/*.json",
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the folders of the navigation."""
    config.nav = [_filled(item) for item in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The same files, each at its path in the repository, and those outside docs/."""
    theirs = [file for file in files if not _in_docs(file, config)]
    inside = [Path(file.abs_src_path) for file in files if _in_docs(file, config)]
    beside = [path for pattern in BESIDE_DOCS for path in sorted(ROOT.glob(pattern))]
    return Files(theirs + [_mounted(path, config) for path in inside + beside])


def _in_docs(file: File, config: MkDocsConfig) -> bool:
    return file.src_dir is not None and Path(file.src_dir) == Path(config.docs_dir)


def _mounted(path: Path, config: MkDocsConfig) -> File:
    return File.generated(
        config,
        path.relative_to(ROOT).as_posix(),
        abs_src_path=str(path),
        inclusion=InclusionLevel.INCLUDED,
    )


def _filled(item: Any) -> Any:
    if isinstance(item, dict):
        return {title: _filled(value) for title, value in item.items()}
    if isinstance(item, list):
        return [_filled(each) for each in item]
    if not str(item).endswith("/"):
        return item
    pages = sorted((ROOT / item).rglob("*.md"), key=lambda path: (len(path.parts), path))
    pages.sort(key=lambda path: path != ROOT / item / "README.md")
    return [path.relative_to(ROOT).as_posix() for path in pages]

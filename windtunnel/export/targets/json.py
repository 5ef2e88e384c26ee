"""`json`: the Handoff alone, which every export has (docs/export/json.md)."""

from pathlib import Path

from windtunnel.export.handoff import Handoff


def write(handoff: Handoff, folder: Path) -> list[Path]:
    """Write nothing more."""
    del handoff, folder
    return []

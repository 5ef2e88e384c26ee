"""What killed processes leave in places where no later run would come across it."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from windtunnel.trials.json_file import is_scratch
from windtunnel.trials.lease import STALE_SECONDS, LeaseHeld
from windtunnel.trials.store import SegmentFolder, Store


def clear_leftovers(store: Store, study: Path, segment_ids: Iterable[str]) -> None:
    """Tidy segments that have a record, and the study's own folder; for the holder of its lease.

    A segment without a record is tidied by the run that goes on with it. In the study's folder
    other commands may be writing: only what is minutes older than our lease goes.
    """
    for segment_id in segment_ids:
        folder = store.segment(segment_id)
        if _has_leftovers(folder):
            with suppress(LeaseHeld), folder.lease():
                folder.clear_scratch()
                folder.drop_resume(up_to=(folder.record or {}).get("reached", 0))
    now = (study / "lease.json").stat().st_mtime
    for entry in study.iterdir():
        with suppress(FileNotFoundError):
            if is_scratch(entry) and abs(now - entry.stat().st_mtime) > STALE_SECONDS:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _has_leftovers(folder: SegmentFolder) -> bool:
    if not (folder.root / "record.json").exists():
        return False
    if folder.lease_file.exists():
        return True
    places = [p for p in (folder.root, folder.checkpoints, folder.resume) if p.is_dir()]
    return any(is_scratch(entry) for place in places for entry in place.iterdir()) or any(
        folder.resume.glob("[0-9]*")
    )

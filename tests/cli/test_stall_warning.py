"""`status` warns of a running segment that has shown no work for a while."""

import pytest

from windtunnel.cli.status import stall_diagnostics
from windtunnel.runs.progress import SegmentProgress, StudyProgress


def progress(status, quiet):
    segment = SegmentProgress(
        segment="0123456789abcdef",
        name="64x3 seed 0, trunk",
        status=status,
        step=10,
        end=100,
        loss=2.0,
        tokens_per_second=1e4,
        quiet_seconds=quiet,
    )
    return StudyProgress(segments=(segment,), flops_done=1.0, flops_planned=2.0, seconds={})


@pytest.mark.parametrize(
    ("status", "quiet", "limit", "codes"),
    [
        ("running", 5.0, 1800.0, []),
        ("running", 119.0, 1800.0, []),
        ("running", 121.0, 1800.0, ["stalled"]),
        ("running", 14.0, 30.0, []),
        ("running", 16.0, 30.0, ["stalled"]),
        ("running", None, 1800.0, []),
        ("waiting", None, 1800.0, []),
    ],
)
def test_a_silence_is_told_after_two_minutes_or_half_the_limit(status, quiet, limit, codes):
    assert [each.code for each in stall_diagnostics(progress(status, quiet), limit)] == codes

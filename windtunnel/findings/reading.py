"""Which questions a study's experiments answer: a new kind of finding is one line here."""

from collections.abc import Callable

from windtunnel.findings.batch import batches
from windtunnel.findings.catch_up import catch_ups
from windtunnel.findings.coordinates import coordinates
from windtunnel.findings.dynamics import training_dynamics
from windtunnel.findings.finding import Finding
from windtunnel.findings.joint import joints
from windtunnel.findings.records import Records
from windtunnel.findings.scaling import data_model_laws
from windtunnel.findings.schedules import schedules
from windtunnel.findings.sensitivity import sensitivities
from windtunnel.findings.transfer import transfers

READERS: tuple[Callable[[Records], tuple[Finding, ...]], ...] = (
    coordinates,
    sensitivities,
    transfers,
    joints,
    data_model_laws,
    training_dynamics,
    batches,
    schedules,
    catch_ups,
)
"""Each looks for experiments of its own kind, told by their axes, and may find none."""


def findings_of(records: Records) -> tuple[Finding, ...]:
    """Every question that the records can answer, in the order of `READERS`."""
    return tuple(finding for read in READERS for finding in read(records))

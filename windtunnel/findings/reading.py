"""Which questions a study's experiments answer: a new kind of finding is one line here."""

from collections.abc import Callable

from windtunnel.findings.adaptation import adaptations
from windtunnel.findings.batch import batches
from windtunnel.findings.branching import branchings
from windtunnel.findings.catching_up.catch_up import catch_ups
from windtunnel.findings.coordinates import coordinates
from windtunnel.findings.data_model.law import data_model_laws
from windtunnel.findings.dynamics.phases import training_dynamics
from windtunnel.findings.finding import Finding
from windtunnel.findings.mixing import mixings
from windtunnel.findings.ranking import rankings
from windtunnel.findings.rates.joint import joints
from windtunnel.findings.rates.sensitivity import sensitivities
from windtunnel.findings.rates.transfer import transfers
from windtunnel.findings.records import Records
from windtunnel.findings.schedules.comparison import schedules

READERS: tuple[Callable[[Records], tuple[Finding, ...]], ...] = (
    coordinates,
    sensitivities,
    transfers,
    joints,
    data_model_laws,
    training_dynamics,
    batches,
    schedules,
    branchings,
    rankings,
    adaptations,
    mixings,
    catch_ups,
)
"""Each looks for experiments of its own kind, told by their axes, and may find none."""


def findings_of(records: Records) -> tuple[Finding, ...]:
    """Every question that the records can answer, in the order of `READERS`."""
    return tuple(finding for read in READERS for finding in read(records))

"""The figures of a finding; each kind has a file of its own."""

from collections.abc import Callable
from typing import Any

from windtunnel.findings import Finding
from windtunnel.findings.adaptation import AdaptationFinding
from windtunnel.findings.batch import BatchFinding
from windtunnel.findings.branching import BranchFinding
from windtunnel.findings.catching_up.catch_up import CatchUpFinding
from windtunnel.findings.coordinates import Coordinates
from windtunnel.findings.data_model.law import DataModelLaw
from windtunnel.findings.dynamics.phases import TrainingDynamics
from windtunnel.findings.mixing import MixingFinding
from windtunnel.findings.ranking import RankingFinding
from windtunnel.findings.rates.joint import JointFinding
from windtunnel.findings.rates.sensitivity import SensitivityFinding
from windtunnel.findings.rates.transfer import TransferFinding
from windtunnel.findings.schedules.comparison import SchedulesFinding
from windtunnel.report.figures import (
    adaptation,
    batch_findings,
    branching,
    catch_up,
    coordinates,
    dynamics,
    joint,
    mixture,
    ranking,
    scaling_finding,
    schedules,
    sensitivity,
    transfer,
)
from windtunnel.report.figures.sheet import Drawing

DRAWN: dict[type[Finding], Callable[[Any], list[Drawing]]] = {
    Coordinates: coordinates.drawings,
    SensitivityFinding: sensitivity.drawings,
    TransferFinding: transfer.drawings,
    JointFinding: joint.drawings,
    DataModelLaw: scaling_finding.drawings,
    TrainingDynamics: dynamics.drawings,
    BatchFinding: batch_findings.drawings,
    SchedulesFinding: schedules.drawings,
    BranchFinding: branching.drawings,
    RankingFinding: ranking.drawings,
    AdaptationFinding: adaptation.drawings,
    MixingFinding: lambda finding: mixture.drawings(finding.law) if finding.law else [],
    CatchUpFinding: catch_up.drawings,
}


def drawings(finding: Finding) -> list[Drawing]:
    """Every figure of one finding, the most telling first; none for a kind without figures."""
    draw = DRAWN.get(type(finding))
    return [] if draw is None else draw(finding)

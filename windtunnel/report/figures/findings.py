"""The figures of a finding; each kind has a file of its own."""

from windtunnel.findings import Finding
from windtunnel.findings.batch import BatchFinding
from windtunnel.findings.branching import BranchFinding
from windtunnel.findings.catching_up.catch_up import CatchUpFinding
from windtunnel.findings.coordinates import Coordinates
from windtunnel.findings.data_model.law import DataModelLaw
from windtunnel.findings.dynamics.phases import TrainingDynamics
from windtunnel.findings.rates.joint import JointFinding
from windtunnel.findings.rates.sensitivity import SensitivityFinding
from windtunnel.findings.rates.transfer import TransferFinding
from windtunnel.findings.schedules.comparison import SchedulesFinding
from windtunnel.report.figures import (
    batch_findings,
    branching,
    catch_up,
    coordinates,
    dynamics,
    joint,
    scaling_finding,
    schedules,
    sensitivity,
    transfer,
)
from windtunnel.report.figures.sheet import Drawing


def drawings(finding: Finding) -> list[Drawing]:
    """Every figure of one finding, the most telling first; none for a kind without figures."""
    match finding:
        case Coordinates():
            return coordinates.drawings(finding)
        case SensitivityFinding():
            return sensitivity.drawings(finding)
        case TransferFinding():
            return transfer.drawings(finding)
        case JointFinding():
            return joint.drawings(finding)
        case DataModelLaw():
            return scaling_finding.drawings(finding)
        case TrainingDynamics():
            return dynamics.drawings(finding)
        case BatchFinding():
            return batch_findings.drawings(finding)
        case SchedulesFinding():
            return schedules.drawings(finding)
        case BranchFinding():
            return branching.drawings(finding)
        case CatchUpFinding():
            return catch_up.drawings(finding)
        case _:
            return []

"""The nouns: what is trained, by which recipe and schedule, and how a study asks for it."""

from windtunnel.spec.config import StudyConfig
from windtunnel.spec.duration import Duration
from windtunnel.spec.model import ModelSpec
from windtunnel.spec.recipe import Recipe
from windtunnel.spec.segment import (
    BatchChange,
    Branch,
    Change,
    ContextChange,
    DataChange,
    ObjectiveChange,
    ScheduleChange,
    Segment,
    Trunk,
)
from windtunnel.spec.size import Size
from windtunnel.spec.yaml_file import load_study

__all__ = [
    "BatchChange",
    "Branch",
    "Change",
    "ContextChange",
    "DataChange",
    "Duration",
    "ModelSpec",
    "ObjectiveChange",
    "Recipe",
    "ScheduleChange",
    "Segment",
    "Size",
    "StudyConfig",
    "Trunk",
    "load_study",
]

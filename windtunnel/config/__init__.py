"""Typed configuration: study files, models, recipes, schedules, and segments with their ids."""

from windtunnel.config.load import load_study
from windtunnel.config.model import Recipe
from windtunnel.config.segment import (
    BatchChange,
    Branch,
    Change,
    ContextChange,
    DataChange,
    ModelChange,
    ObjectiveChange,
    ScheduleChange,
    Segment,
    Trunk,
)
from windtunnel.config.shape import DenseSpec, FamilySpec, ModelSpec, read_model
from windtunnel.config.study import StudyConfig
from windtunnel.config.units import Duration, Size

__all__ = [
    "BatchChange",
    "Branch",
    "Change",
    "ContextChange",
    "DataChange",
    "DenseSpec",
    "Duration",
    "FamilySpec",
    "ModelChange",
    "ModelSpec",
    "ObjectiveChange",
    "Recipe",
    "ScheduleChange",
    "Segment",
    "Size",
    "StudyConfig",
    "Trunk",
    "load_study",
    "read_model",
]

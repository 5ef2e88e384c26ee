"""The nouns: what is trained, by which recipe and schedule, and how a study asks for it."""

from windtunnel.spec.config import StudyConfig
from windtunnel.spec.duration import Duration
from windtunnel.spec.model import ModelSpec
from windtunnel.spec.recipe import Recipe
from windtunnel.spec.segment import Branch, DataChange, ScheduleChange, Segment, Trunk
from windtunnel.spec.size import Size
from windtunnel.spec.yaml_file import load_study

__all__ = [
    "Branch",
    "DataChange",
    "Duration",
    "ModelSpec",
    "Recipe",
    "ScheduleChange",
    "Segment",
    "Size",
    "StudyConfig",
    "Trunk",
    "load_study",
]

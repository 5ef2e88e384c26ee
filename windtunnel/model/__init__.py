"""Networks: the built-in decoder and families of others; the lowest room that imports torch."""

from windtunnel.family import Facts, Shape, Value
from windtunnel.model.build import build, initialise
from windtunnel.model.decoder import Decoder
from windtunnel.model.family import Family
from windtunnel.model.language_model import LanguageModel
from windtunnel.mup import Role

__all__ = [
    "Decoder",
    "Facts",
    "Family",
    "LanguageModel",
    "Role",
    "Shape",
    "Value",
    "build",
    "initialise",
]

"""Text and token sources to a training stream that is a pure function of the row number.

>>> spec = DataSpec(sources=(Source(name="docs", path="builtin:docs"),))
>>> dataset = prepare(spec, root=store / "data")
>>> rows = dataset.stream(context=128).rows(0, 8, data_seed=0)  # int64, (8, 129)
"""

from windtunnel.data.account import Account
from windtunnel.data.cache_key import cache_key_hash, changes_since, dataset_cache_key
from windtunnel.data.dataset import Dataset, SourceInfo
from windtunnel.data.prepare import Progress, find_prepared, prepare, prepare_validation
from windtunnel.data.source import DataSpec, Source
from windtunnel.data.stream import TrainStream
from windtunnel.data.validation import ValidationSet

__all__ = [
    "Account",
    "DataSpec",
    "Dataset",
    "Progress",
    "Source",
    "SourceInfo",
    "TrainStream",
    "ValidationSet",
    "cache_key_hash",
    "changes_since",
    "dataset_cache_key",
    "find_prepared",
    "prepare",
    "prepare_validation",
]

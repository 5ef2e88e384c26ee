"""Findings: what an experiment has shown, from its records alone.

>>> records = read_records(Path("experiments/003-lr-transfer/records"))  # doctest: +SKIP
>>> for finding in findings_of(records):  # doctest: +SKIP
...     print(finding.lead)
"""

from windtunnel.findings.base import LEVEL, Finding, Quantity, QuantityId
from windtunnel.findings.records import Records, read_records, records_of, write_records
from windtunnel.findings.registry import findings_of, load_records

__all__ = [
    "LEVEL",
    "Finding",
    "Quantity",
    "QuantityId",
    "Records",
    "findings_of",
    "load_records",
    "read_records",
    "records_of",
    "write_records",
]

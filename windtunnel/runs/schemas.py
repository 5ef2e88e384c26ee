"""Schemas of the files in a store, each with the fix for a damaged file.

Callers get plain data. Unknown keys are kept, because another version may write more of them.
Numbers are strict: neither text nor an integer beyond every float is read as a number.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from windtunnel.config import Segment
from windtunnel.errors import Refused
from windtunnel.runs.json_schema import Schema

OPEN = ConfigDict(extra="allow", strict=True)
LARGEST = 2**62
"""The largest integer that is read; no study counts that far."""

Count = Annotated[int, Field(ge=0, le=LARGEST)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Step = Annotated[str, Field(pattern=r"^[0-9]{1,15}$")]


def _schema(kind: Any, fix: str, *, often: bool = False) -> Schema[dict[str, Any]]:
    return Schema(TypeAdapter(kind), fix, often)


@with_config(OPEN)
class FormatFile(TypedDict):
    """store.json: the format version of all files in a store, and the store's own id."""

    format: Annotated[int, Field(ge=1, le=LARGEST)]
    id: NotRequired[Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]]


@with_config(OPEN)
class CurveSeal(TypedDict):
    """Size and CRC-32 of a curve at the time its record was written."""

    bytes: Count
    crc32: Count


@with_config(OPEN)
class Outcome(TypedDict):
    """Keys that record.json may have whatever the outcome."""

    segment: NotRequired[str]
    evaluation_seconds: NotRequired[Seconds]
    checkpoint_seconds: NotRequired[Seconds]
    execution: NotRequired[dict[str, Any]]
    curve: NotRequired[CurveSeal]
    written: NotRequired[Number]
    error: NotRequired[str]


@with_config(OPEN)
class Ended(Outcome):
    """record.json of a finished or diverged segment."""

    outcome: Literal["finished", "diverged"]
    reached: Count
    seconds: Seconds
    epochs: dict[str, Seconds]


@with_config(OPEN)
class Failed(Outcome):
    """record.json of a segment that was given up."""

    outcome: Literal["failed"]
    reached: NotRequired[Count]
    seconds: NotRequired[Seconds]
    epochs: NotRequired[dict[str, Seconds]]


@with_config(OPEN)
class CopyGain(TypedDict):
    """The copy gain on one validation set (train/copying.py), in measurements.json."""

    gain: Number
    standard_error: Seconds | None
    chunks: Count


@with_config(OPEN)
class Measurement(TypedDict):
    """Losses on one validation set, in measurements.json."""

    fingerprint: str
    asked: NotRequired[Count]
    tokens: NotRequired[Count]
    nats_per_token: Number | None
    bits_per_byte: Number | None
    conditional: NotRequired[bool]
    copy_gain: NotRequired[CopyGain]


@with_config(OPEN)
class ExecutionRecord(TypedDict):
    """execution.json (train/execution.py); older versions wrote fewer keys."""

    device: Literal["cpu", "cuda"]
    device_kind: str
    precision: Literal["fp32", "bf16"]
    compile: bool
    threads: Count
    micro_batch_rows: Count
    deterministic: bool
    torch: str
    windtunnel: str
    kernels: NotRequired[str]
    devices: NotRequired[Count]
    subnormals: NotRequired[Literal["kept", "flushed"]]


@with_config(OPEN)
class CurveRow(TypedDict):
    """A line of curve.jsonl."""

    step: Count
    tokens: Count
    loss: Number | None
    seconds: NotRequired[Number]
    lr: NotRequired[Number | None]
    grad_norm: NotRequired[Number | None]


@with_config(OPEN)
class DynamicsRow(TypedDict):
    """A line of dynamics.jsonl."""

    step: Count
    cosine: Number | None
    d1: Number | None
    d2: Number | None
    curvature: Number | None
    grad_norm: Number | None
    max_change: dict[str, Number | None] | None


@with_config(OPEN)
class RoutingRow(TypedDict):
    """A line of routing.jsonl; the lists have a value a layer."""

    step: Count
    load_entropy: list[Number | None]
    largest_share: list[Number | None]
    router_entropy: list[Number | None]
    similarity: list[Number | None]


@with_config(OPEN)
class NoteLine(TypedDict):
    """A line of notes.jsonl."""

    time: Number
    note: str


@with_config(OPEN)
class LockedSource(TypedDict):
    """One source in a data lock."""

    path: str
    name: NotRequired[str | None]


@with_config(OPEN)
class LockedData(TypedDict):
    """The data section of a study file at the time it was locked."""

    sources: list[LockedSource]


@with_config(OPEN)
class DataLock(TypedDict):
    """data.json: the data that a study's runs were trained on."""

    asked: LockedData
    dataset: Annotated[str, Field(min_length=1)]
    stream: str


@with_config(OPEN)
class ForecastTransition(TypedDict):
    """What the lower end of a forecast holds beside the law (laws/interval.py, Widening)."""

    share: Number
    low: float


@with_config(OPEN)
class ForecastPoint(TypedDict):
    """One held-out run in a line of forecasts.jsonl."""

    segment: str
    params: Above0
    tokens: Above0
    loss: Above0
    low: float | None
    high: float | None
    naive: dict[str, Number]
    transition: NotRequired[ForecastTransition]


@with_config(OPEN)
class ForecastLine(TypedDict):
    """A line of forecasts.jsonl; lines of before have no `experiment` and no `largest`."""

    written: Number
    experiment: NotRequired[str]
    inputs: str
    largest: NotRequired[dict[str, Number]]
    rows: Count
    held_out_trained_before: bool
    sigma: Seconds | None
    level: Annotated[float, Field(gt=0, lt=1)]
    points: list[ForecastPoint]


@with_config(OPEN)
class HandedEstimate(TypedDict):
    """A number and its interval."""

    value: Above0
    low: Number | None
    high: Number | None


@with_config(OPEN)
class HandedCounts(TypedDict):
    """Sizes in a line of handoffs.jsonl."""

    params: Count
    tokens: Count
    tokens_per_param: Number
    flops_6nd: Number


@with_config(OPEN)
class HandedModel(TypedDict):
    """Shape in a line of handoffs.jsonl."""

    width: Count
    depth: Count


@with_config(OPEN)
class HandedBatch(TypedDict):
    """Batch in a line of handoffs.jsonl."""

    batch_tokens: Count
    how: Literal["law", "study", "given"]


@with_config(OPEN)
class HandedRole(TypedDict):
    """One role of parameters in a line of handoffs.jsonl."""

    lr: Number


@with_config(OPEN)
class HandedRoles(TypedDict):
    """Roles in a line of handoffs.jsonl."""

    hidden: HandedRole


def _with_mean(forecast: dict[str, HandedEstimate]) -> dict[str, HandedEstimate]:
    if "mean" not in forecast:
        raise Refused(
            "missing-key",
            "the forecast of the mean over the validation sets is missing",
            key="mean",
        )
    return forecast


@with_config(OPEN)
class Handed(TypedDict):
    """The part of a Handoff that is read back from handoffs.jsonl."""

    counts: HandedCounts
    model: HandedModel
    batch: HandedBatch
    roles: HandedRoles
    forecast: Annotated[dict[str, HandedEstimate], AfterValidator(_with_mean)]
    level: Annotated[float, Field(gt=0, lt=1)]
    written: str
    warnings: list[Any]


@with_config(OPEN)
class HandedLine(TypedDict):
    """A line of handoffs.jsonl."""

    target: str
    handoff: Handed


@with_config(OPEN)
class SweepLine(TypedDict):
    """A line of sweeps.jsonl (runs/budget/utilisation.py)."""

    began: Number
    startup: Number
    seconds: Seconds
    slots: Annotated[int, Field(ge=1, le=LARGEST)]
    segments: Count
    busy: Seconds
    bound: Seconds


@with_config(OPEN)
class CheckedSite(TypedDict):
    """One activation, one layer's update, or one role's decay, of a coordinate check."""

    name: str
    slope: Number
    changes: Annotated[list[list[Number | None]], Field(min_length=1)]
    judged: bool


@with_config(OPEN)
class CheckedLayer(CheckedSite):
    """A site with its kind, and the slopes that pass."""

    kind: str
    lowest: Number
    highest: Number


CheckedLayers = Annotated[list[CheckedLayer], Field(min_length=1)]


@with_config(OPEN)
class CheckedDepths(TypedDict):
    """The part of a coordinate check that compares depths."""

    passed: bool
    width: Count
    depths: Annotated[list[Count], Field(min_length=1)]
    sites: CheckedLayers
    effective: CheckedLayers
    propagated: CheckedLayers


@with_config(OPEN)
class CheckFile(TypedDict):
    """coordinate-check.*.json, as `windtunnel check mup --json` prints it."""

    parametrization: str
    passed: bool
    widths: Annotated[list[Count], Field(min_length=1)]
    sites: Annotated[list[CheckedSite], Field(min_length=1)]
    decays: list[CheckedSite]
    effective: NotRequired[CheckedLayers]
    propagated: NotRequired[CheckedLayers]
    depth: NotRequired[CheckedDepths | None]


@with_config(OPEN)
class Origin(TypedDict):
    """Origin of an imported run."""

    tool: str
    source: NotRequired[str]


@with_config(OPEN)
class ImportedAdd(TypedDict):
    """A line of imported.jsonl that adds a run; its id checks the rest."""

    action: Literal["add"]
    label: str
    segment: str
    measured: dict[str, Any]
    origin: Origin
    time: Number


@with_config(OPEN)
class ImportedRemove(TypedDict):
    """A line of imported.jsonl that removes a run."""

    action: Literal["remove"]
    label: str


SWEEP_AGAIN = "put back a copy, or remove the file and run `windtunnel sweep` again"
LINE = "put back a copy of the file, or take the line out"

ANYTHING: Schema[dict[str, Any]] = _schema(dict[str, Any], "put back a copy of the file")
ANY_LINE: Schema[dict[str, Any]] = _schema(dict[str, Any], LINE)
FORMAT_FILE: Schema[dict[str, Any]] = _schema(
    FormatFile, "remove the file if no later version of windtunnel has written to the store"
)
RECORD: Schema[dict[str, Any]] = _schema(
    Annotated[Ended | Failed, Field(discriminator="outcome")],
    f"{SWEEP_AGAIN}: what the segment's checkpoints hold is not trained again",
    often=True,
)
MEASUREMENTS: Schema[dict[str, Any]] = _schema(
    dict[Step, dict[str, Measurement]],
    f"{SWEEP_AGAIN}: the segment's checkpoints are measured again",
    often=True,
)
EXECUTION: Schema[dict[str, Any]] = _schema(
    ExecutionRecord,
    "put back a copy, or that of another trunk which was computed on the same machine",
)
SPEC: Schema[Segment] = Schema(
    TypeAdapter(Segment), f"{SWEEP_AGAIN}, which writes it from the study file"
)
DATA_LOCK: Schema[dict[str, Any]] = _schema(
    DataLock,
    "put back a copy, or remove the file: the next sweep prepares the data again, to the same "
    "tokens if its sources are the same",
)
SPENT: Schema[dict[str, Any]] = _schema(
    dict[str, Annotated[list[Number], Field(min_length=2, max_length=2)]],
    "put back a copy; or remove the file, and the budget counts only what is taken from then on",
)
COORDINATE_CHECK: Schema[dict[str, Any]] = _schema(
    CheckFile, "`windtunnel check mup STUDY.yaml` makes it again"
)
CURVE_ROW: Schema[dict[str, Any]] = _schema(
    CurveRow, f"run `windtunnel sweep` again: it does those updates again; or {LINE}", often=True
)
DYNAMICS_ROW: Schema[dict[str, Any]] = _schema(DynamicsRow, LINE, often=True)
ROUTING_ROW: Schema[dict[str, Any]] = _schema(RoutingRow, LINE, often=True)
NOTE: Schema[dict[str, Any]] = _schema(NoteLine, LINE)
FORECAST: Schema[dict[str, Any]] = _schema(ForecastLine, LINE)
HANDOFF: Schema[dict[str, Any]] = _schema(HandedLine, LINE)
IMPORTED: Schema[dict[str, Any]] = _schema(
    Annotated[ImportedAdd | ImportedRemove, Field(discriminator="action")],
    "put back a copy of the file, or take the line out and import (or --remove) its run again",
)
SWEEP: Schema[dict[str, Any]] = _schema(SweepLine, LINE)

"""The coordinate check: how the change of activations after a few updates depends on the shape.

The check over widths uses the change from initialisation of the residual stream and of each role's
output (Yang et al. 2022, arXiv 2203.03466, section D.1, on changes instead of sizes). Logits alone
hide faults behind the final norm, and at init their size falls as width^-1/2 under tied weights
without any fault. Weight decay leaves no trace in activations; it is measured separately, as the
shrinkage of each role's weights in one update without gradient.

Changes of activations hide a layer that learns too slowly behind the layers before it, so the two
parts of each layer's change are judged by themselves (`runs.coordinate_traces`).

The check over depths asks the same of one width. Layers are averaged there (root mean square),
because depths have different ones. A branch's output is measured before its residual factor: under
CompleteP it changes as much at every depth, and each of L layers adds 1 / L of that to the stream
(Dey et al. 2025, arXiv 2505.01618, Figure 7).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from windtunnel.config import ModelSpec, Recipe
from windtunnel.errors import ConfigError
from windtunnel.mup import Role
from windtunnel.runs.coordinate_traces import ROWS, Trace, Values, mean_trace, weight_shrinkage
from windtunnel.runs.forward_pass import KEYS_AND_VALUES, LOGITS, Site

TOLERANCE = 0.2
"""Largest slope of ln(change) against ln(width) that passes. Measured over widths 32 to 256, 8 and
16 updates, three seeds: muP stays within 0.11 (logits apart), and each single broken rule moves
some slope beyond 0.65. Effective updates of embedding and gains, and propagated updates, stay
within 0.16 (three times three seeds, 8 and 16 updates, depths 2 and 3, tied and not).
"""

LOWEST_LOGITS_SLOPE = -0.4
"""Logits may fall with width for a while without a fault: until updates align with the readout,
their change is a sum of random signs over the width, of slope -1/2 (derived; measured under muP:
-0.06 to -0.20). A lost factor 1 / m shows as a slope near +1, one too many as -1.
"""

LOWEST_SUM_SLOPE = -0.6
"""Lowest slope of an effective update of a matrix, and of what reaches the logits from earlier
layers. Both are sums over the width whose terms have random signs until they align, of slope -1/2
(derived; measured under muP, as above: -0.36 to +0.07 and -0.36 to -0.31). One factor 1 / m too
many shows below -1.2.
"""

READOUTS = frozenset({Role.READOUT, Role.ROUTER})
"""Roles of matrices that map the width onto a number that stays."""

DEPTH_TOLERANCE = 0.15
"""Largest slope against ln(depth) that passes, either way. Measured over depths 2 to 16, 8 and 16
updates, three times three seeds: completep stays within 0.07. `mup` moves some slope beyond 0.3,
because its rate has no depth rule; so does each single broken rule of completep, eps included
where it is as large as gradients are.
"""

SEEDS = (0, 1, 2)
"""Each slope is of the mean over these inits and batches."""


@dataclass(frozen=True, kw_only=True)
class SiteResult:
    """One activation, one layer's update, or one role's weight decay, by width or depth.

    `changes` has one row per step and one column per model: root mean square of (now - init). An
    effective or propagated update has the row of the last step alone.
    """

    name: str
    changes: tuple[tuple[float, ...], ...]
    slope: float
    judged: bool
    lowest: float = -TOLERANCE
    highest: float = TOLERANCE
    kind: str = ""
    layer: int | None = None

    @property
    def passed(self) -> bool:
        """Whether it is independent of the shape, within the tolerance."""
        return not self.judged or self.lowest <= self.slope <= self.highest


@dataclass(frozen=True, kw_only=True)
class DepthCheck:
    """The results over several depths of one width; sites are means over the layers."""

    width: int
    depths: tuple[int, ...]
    sites: tuple[SiteResult, ...]
    effective: tuple[SiteResult, ...]
    propagated: tuple[SiteResult, ...]
    tolerance: float = DEPTH_TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether every slope is within the tolerance."""
        return all(each.passed for each in (*self.sites, *self.effective, *self.propagated))


@dataclass(frozen=True, kw_only=True)
class CoordinateCheck:
    """The results of all sites over the checked widths, and over depths where these were asked."""

    widths: tuple[int, ...]
    parametrization: str
    sites: tuple[SiteResult, ...]
    decays: tuple[SiteResult, ...]
    effective: tuple[SiteResult, ...]
    propagated: tuple[SiteResult, ...]
    unseen: tuple[str, ...] = ()
    depth: DepthCheck | None = None
    tolerance: float = TOLERANCE
    lowest_logits_slope: float = LOWEST_LOGITS_SLOPE
    lowest_sum_slope: float = LOWEST_SUM_SLOPE

    @property
    def passed(self) -> bool:
        """Whether every judged slope over widths is within the tolerance."""
        every = (*self.sites, *self.decays, *self.effective, *self.propagated)
        return all(each.passed for each in every)

    @property
    def all_passed(self) -> bool:
        """Whether no slope fails, over widths or over depths."""
        return self.passed and (self.depth is None or self.depth.passed)

    def document(self) -> dict[str, Any]:
        """The check for machines; `passed` is of the widths, `depth.passed` of the depths."""
        depth = self.depth and asdict(self.depth) | {"passed": self.depth.passed}
        return asdict(self) | {"depth": depth, "passed": self.passed}


def coordinate_check(
    models: list[ModelSpec], recipe: Recipe, *, steps: int, seeds: tuple[int, ...] = SEEDS
) -> CoordinateCheck:
    """Train each model `steps` updates at its peak rate and judge how changes depend on width.

    Raises:
        ConfigError: The widths span less than a factor of 8, or the models differ otherwise.
    """
    widths = tuple(model.width for model in models)
    if _is_narrow(widths):
        raise ConfigError(
            "too-few-widths",
            f"widths {', '.join(map(str, widths))}: give three or more, over a factor of 8 or more",
            widths=widths,
            needed=NEEDED,
            factor=FACTOR,
        )
    if any(a.depth != b.depth or a.attention_dim != b.attention_dim for a, b in pairwise(models)):
        raise ConfigError(
            "shapes-differ",
            "a coordinate check compares widths at one depth and one head size",
            depths=sorted({model.depth for model in models}),
            head_dims=sorted({model.attention_dim or 0 for model in models}),
        )
    recipe = _checked(recipe, models[0])
    traces = [mean_trace(model, recipe, steps=steps, seeds=seeds) for model in models]
    roles = traces[0].roles
    sums = {site for site, role in roles.items() if role in {Role.HIDDEN, *READOUTS}}
    readouts = {site for site, role in roles.items() if role in READOUTS}
    if recipe.kv_rule == "spectral" and len({model.kv_group for model in models}) > 1:
        readouts |= {site for site in roles if site.kind in KEYS_AND_VALUES}
    shown = {None, 1, models[0].depth}
    shrinkages = [weight_shrinkage(model, recipe) for model in models]
    judges_decay = recipe.weight_decay_rule == "scaled" and recipe.weight_decay > 0
    return CoordinateCheck(
        widths=widths,
        parametrization=recipe.parametrization,
        unseen=traces[0].unseen,
        sites=tuple(
            _result(
                site,
                widths,
                [trace.changes[site] for trace in traces],
                lowest=LOWEST_LOGITS_SLOPE if site.kind == LOGITS else -TOLERANCE,
            )
            for site in traces[0].changes
            if site.layer in shown
        ),
        effective=tuple(
            _result(
                site,
                widths,
                [trace.effective[site] for trace in traces],
                lowest=LOWEST_SUM_SLOPE if site in sums else -TOLERANCE,
            )
            for site in traces[0].effective
        ),
        propagated=tuple(
            _result(
                site,
                widths,
                [trace.propagated[site] for trace in traces],
                lowest=LOWEST_SUM_SLOPE if site in readouts else -TOLERANCE,
            )
            for site in traces[0].propagated
        ),
        decays=tuple(
            _result(
                Site(f"weight decay of {role}"),
                widths,
                [np.array([found[role]]) for found in shrinkages],
                judged=judges_decay,
            )
            for role in shrinkages[0]
        ),
    )


def depth_check(
    models: list[ModelSpec], recipe: Recipe, *, steps: int, seeds: tuple[int, ...] = SEEDS
) -> DepthCheck:
    """Train each model `steps` updates at its peak rate and judge how changes depend on depth.

    Raises:
        ConfigError: The depths span less than a factor of 8, or the models differ otherwise.
    """
    depths = tuple(model.depth for model in models)
    if _is_narrow(depths):
        raise ConfigError(
            "too-few-depths",
            f"depths {', '.join(map(str, depths))}: give three or more, over a factor of 8 or more",
            depths=depths,
            needed=NEEDED,
            factor=FACTOR,
        )
    if any(a.identity() | {"depth": b.depth} != b.identity() for a, b in pairwise(models)):
        raise ConfigError(
            "shapes-differ",
            "a coordinate check over depths compares models that differ in nothing else",
            widths=sorted({model.width for model in models}),
        )
    recipe = _checked(recipe, models[0])
    traces = [mean_trace(model, recipe, steps=steps, seeds=seeds).over_layers() for model in models]

    def results(part: Callable[[Trace], Values]) -> tuple[SiteResult, ...]:
        return tuple(
            _result(
                site,
                depths,
                [part(trace)[site] for trace in traces],
                lowest=-DEPTH_TOLERANCE,
                highest=DEPTH_TOLERANCE,
            )
            for site in part(traces[0])
        )

    return DepthCheck(
        width=models[0].width,
        depths=depths,
        sites=results(lambda trace: trace.changes),
        effective=results(lambda trace: trace.effective),
        propagated=results(lambda trace: trace.propagated),
    )


def steepest_by_kind(
    effective: Sequence[SiteResult], propagated: Sequence[SiteResult]
) -> list[SiteResult]:
    """The effective updates of one layer a kind: one that fails in either part, or the steepest."""
    failing = {each.name for each in (*effective, *propagated) if not each.passed}
    kinds = dict.fromkeys(each.kind for each in effective)
    return [
        max(
            (each for each in effective if each.kind == kind),
            key=lambda each: (each.name in failing, abs(each.slope)),
        )
        for kind in kinds
    ]


NEEDED, FACTOR = 3, 8
"""Fewest widths or depths, and the least factor between their ends (assumed)."""


def _is_narrow(sizes: tuple[int, ...]) -> bool:
    return len(set(sizes)) < NEEDED or max(sizes) < FACTOR * min(sizes)


def _checked(recipe: Recipe, model: ModelSpec) -> Recipe:
    """The recipe at the check's batch, without a warmup."""
    return recipe.replace(warmup_steps=1, batch_tokens=ROWS * model.context)


def _result(
    site: Site,
    sizes: tuple[int, ...],
    values: list[np.ndarray],
    *,
    judged: bool = True,
    lowest: float = -TOLERANCE,
    highest: float = TOLERANCE,
) -> SiteResult:
    table = np.stack(values, axis=1)
    last = np.maximum(table[-1], np.finfo(float).tiny)
    # At small widths a change still holds a term of order width^-1/2; a fault grows with width.
    middle, second = np.sqrt(min(sizes) * max(sizes)), sorted(set(sizes))[-2]
    large = np.array(sizes) >= min(middle, second)
    slope = float(np.polyfit(np.log(sizes)[large], np.log(last)[large], 1)[0])
    return SiteResult(
        name=str(site),
        changes=tuple(tuple(map(float, row)) for row in table),
        slope=slope,
        judged=judged,
        lowest=lowest,
        highest=highest,
        kind=site.kind,
        layer=site.layer,
    )

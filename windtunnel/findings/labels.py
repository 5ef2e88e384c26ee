"""Labels of the quantities of findings: what a report, a notebook and a table call each number.

A template's fields are those of the quantity's id; a part in square brackets stands only where the
quantity has the fields that it names.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial

Field = str | int | float
Label = str | Callable[[Mapping[str, Field]], str]


RULE_LABELS = {
    "none": "keeping the rate",
    "sqrt": "the square-root rule",
    "linear": "the linear rule",
    "measured": "the measured exponent",
}
"""How the rate follows the batch."""


def _of_sets(fields: Mapping[str, Field]) -> str:
    """`, docs`, `, mean of both sets`, or `, without long horizons`; empty for a single set."""
    if "sets" in fields:
        return f", mean of {'both' if fields['sets'] == 2 else fields['sets']} sets"
    if "without" in fields:
        return f", without {fields['without']}"
    return f", {fields['set']}" if "set" in fields else ""


def _best_ratio(fields: Mapping[str, Field]) -> str:
    times = f"{fields['multiple']} times " if "multiple" in fields else ""
    counted = ", exact FLOPs" if fields.get("flops") == "exact" else ""
    law = filled("[, {law} law]", fields)
    return f"D/N at {times}the largest fitted budget{_of_sets(fields)}{counted}{law}"


def _word(fields: Mapping[str, Field]) -> str:
    return "training length" if fields["along"] == "tokens" else str(fields["along"])


def _drift(noun: str, fields: Mapping[str, Field]) -> str:
    return f"drift of the best {noun} per doubling of {_word(fields)}" + filled(
        "[, {variant} over {base}]" if "base" in fields else "[, {variant}]", fields
    )


def _given_up(noun: str, fields: Mapping[str, Field]) -> str:
    smallest = "the shortest" if fields["along"] == "tokens" else "the smallest"
    return (
        f"loss given up at {fields['times']:.3g} times the {_word(fields)} by the {noun} of "
        f"{fields.get('source', smallest)}" + filled("[, {variant}]", fields)
    )


def _of_transfer(kind: str, noun: str) -> dict[str, Label]:
    """The labels of a setting that is carried over sizes or lengths."""
    best = f"{kind}/best-{noun.replace(' ', '-')}"
    return {
        f"{kind}/drift": partial(_drift, noun),
        f"{kind}/given-up": partial(_given_up, noun),
        f"{kind}/given-up-over-noise": lambda fields: (
            f"{_given_up(noun, fields)}, over the noise between seeds"
        ),
        f"{kind}/best-loss-difference": lambda fields: filled(
            "best loss at {times:.3g} times the {along}, {variant} minus {base}",
            {**fields, "along": _word(fields)},
        ),
        best: f"best {noun} at {{at}}[, {{variant}}]",
        f"{kind}/best-loss": "best loss at {at}[, {variant}]",
        f"{kind}/noise": "noise between seeds",
        f"{kind}/diverged": "diverged runs[, {variant}]",
    }


LABELS: Mapping[str, Label] = {
    "adaptation/exponent": "exponent of loss on {set}, {group!r}",
    "adaptation/floor": "floor of loss on {set}, {group!r}",
    "adaptation/at-twice": "loss on {set} at twice the longest, {group!r}",
    "adaptation/per-doubling": "change of loss on {set} per doubling, {group!r}",
    "batch-size/exponent": "exponent of the batch law",
    "batch-size/growth": "growth of the best batch as loss falls by 10%",
    "batch-size/best": "best batch of {size} at its lowest loss",
    "batch-size/extra-tokens": "extra tokens for a batch {times} off",
    "branches/difference": "loss on {set}, {variant!r} minus {base!r}",
    "branches/loss": "loss on {set} of {variant!r}",
    "coordinate-check/steepest-slope": "steepest slope, {parametrization}",
    "coordinate-check/slope": "slope of {site}, {parametrization}",
    "coordinate-check/worst-effective-slope": "worst slope of own updates, {parametrization}",
    "coordinate-check/worst-propagated-slope": (
        "worst slope of updates by earlier layers, {parametrization}"
    ),
    "coordinate-check/worst-depth-slope": "worst slope over depth, {parametrization}",
    "lr-batch/exponent": "exponent of the best rate in the batch[, {size}]",
    "lr-batch/given-up-mean": lambda fields: (
        f"loss given up by {RULE_LABELS[str(fields['rule'])]}, mean"
    ),
    "lr-batch/given-up-worst": lambda fields: (
        f"loss given up by {RULE_LABELS[str(fields['rule'])]}, worst batch"
    ),
    "lr-batch/power2-exponent": "exponent of the best rate in the {input} (power2)",
    "lr-batch/power2-regret": "{statistic} regret of the fitted rate law (power2)",
    "lr-batch/published-rate-regret": (
        "regret of StepLaw's published rate, mean over sizes at batch {batch:.0f}"
    ),
    "lr-batch/published-rate": "StepLaw's rate[, {size}]",
    "lr-batch/published-batch": "StepLaw's batch[, {size}]",
    "lr-batch/published-regret": "regret of StepLaw's rate and batch[, {size}]",
    "lr-batch/best-rate": "best rate at {at}[, {size}]",
    "lr-batch/noise": "noise between seeds",
    "lr-sensitivity/sensitivity": "rate sensitivity, {variant}",
    "lr-sensitivity/ratio": "rate sensitivity, {variant} over {base}",
    "lr-sensitivity/best-rate": "best rate tried, {variant}",
    "lr-sensitivity/lowest-loss": "lowest loss, {variant}",
    "lr-sensitivity/diverged": "diverged runs, {variant}",
    **_of_transfer("lr-transfer", "rate"),
    "mixture/share": "share of {source} in the best mixture",
    "mixture/gain": "gain of the best mixture over {base}",
    "mixture/target-rank": "rank correlation on mixtures left out, target",
    "mixture/rank": "rank correlation on mixtures left out, loss on {set}",
    "mixture/error": "error on mixtures left out, loss on {set}",
    "overtraining/tokens": "tokens of {small} to match {large} at {horizon}",
    "overtraining/tokens-per-param": (
        "tokens per parameter of {small} to match {large} at {horizon}"
    ),
    "overtraining/training-compute": (
        "training compute of {small} to match {large} at {horizon}, {flops}"
    ),
    "overtraining/break-even": (
        "inference that pays for {small} to match {large} at {horizon}, {flops}"
    ),
    "overtraining/inference-compute": "inference compute of {large} over {small}, {flops}",
    "overtraining/floor": "loss of {small} at endless compute, power law",
    "overtraining/power": "power of compute in the loss of {small}",
    "overtraining/aic-difference": "AIC of the exponential minus the power law",
    "overtraining/late-error": "error on the last third of compute, {form}",
    "ranking/rank": "rank correlation on {set}, {cheap} against {dear}",
    "ranking/cost": "cost of {cheap} over {dear}",
    "ranking/cost-with-trunks": "cost of {cheap} over {dear}, with their trunks",
    "ranking/regret": "regret on {set} of choosing by {cheap}",
    "ranking/tau": "Kendall's tau on {set}, {cheap} against {dear}",
    "ranking/ceiling": "rank correlation on {set}, {dear} against its repeat",
    "ranking/same-best": "chance that {cheap} and {dear} agree on the best for {set}",
    "scaling-law/exponent": lambda fields: f"{fields['coefficient']}{_of_sets(fields)}",
    "scaling-law/eta": lambda fields: f"eta{_of_sets(fields)}",
    "scaling-law/largest-budget": "largest fitted budget",
    "scaling-law/best-ratio": _best_ratio,
    "scaling-law/ratio-of-flop-rules": "D/N under exact FLOPs over D/N under 6ND",
    "scaling-law/ratio-of-sets": "D/N of {set} over D/N of {base}",
    "scaling-law/width-without-long": (
        "width of the interval of D/N without long horizons over with"
    ),
    "scaling-law/forecast-inside": (
        "share of the largest size's points inside the forecast's interval"
    ),
    "scaling-law/forecast-error": "rms error of the forecast of the largest size",
    "scaling-law/baseline-error": "rms error of {baseline}",
    "schedules/cosine-difference": "cosine minus WSD, decay {decay}[, at {horizon}]",
    "schedules/cosine-difference-mean": "cosine minus WSD, mean over the decays",
    "schedules/above-best-decay": "loss above the best decay, decay {decay}",
    "schedules/shape-difference": "shape {shape} minus {base}, decay {decay}",
    "schedules/cosine-compute-ratio": "compute of cosine runs over that of WSD, same lengths",
    "schedules/wsd-compute": "compute of WSD, one seed",
    "schedules/cosine-compute": "compute of cosine runs, one seed",
    "training-dynamics/change-ratio": "change of weights, end of decay over stable",
    "training-dynamics/change-correlation-mean": (
        "correlation of ln change with ln rate, mean of matrices"
    ),
    "training-dynamics/change-correlation-lowest": (
        "correlation of ln change with ln rate, lowest matrix"
    ),
    "training-dynamics/change-exponent": "exponent of change on rate",
    "training-dynamics/grad-norm-ratio": "gradient norm, end of decay over stable",
    "training-dynamics/cosine-positive-decay": "share of positive cosines in decay",
    "training-dynamics/cosine-positive-stable": "share of positive cosines in stable",
    "training-dynamics/cosine-positive-difference": (
        "share of positive cosines, decay less stable"
    ),
    "training-dynamics/cosine-decay": "mean cosine in decay",
    "training-dynamics/cosine-stable": "mean cosine in stable",
    "training-dynamics/d1-size-ratio": "size of D1, end of decay over stable",
    "training-dynamics/d1-size-exponent": "exponent of the size of D1 on rate",
    "training-dynamics/d1-mean-ratio": "mean of D1, end of decay over stable",
    "training-dynamics/d2-size-ratio": "size of D2, end of decay over stable",
    "training-dynamics/curvature-ratio": "curvature, end of decay over stable",
    "training-dynamics/curvature-exponent": "exponent of curvature on rate",
    "training-dynamics/loss-fall-decay": "fall of the training loss over the decay",
    "training-dynamics/loss-fall-stable": ("fall of the training loss over as many updates before"),
    **_of_transfer("weight-decay-transfer", "weight decay"),
}
"""By finding and quantity."""


def label_of(finding: str, quantity: str, fields: Mapping[str, Field]) -> str:
    """The label of one quantity.

    Raises:
        KeyError: No finding has such a quantity, or a field of it is missing.
    """
    label = LABELS[f"{finding}/{quantity}"]
    return filled(label, fields) if isinstance(label, str) else label(fields)


def filled(template: str, fields: Mapping[str, Field]) -> str:
    """The template with its fields; a part in brackets vanishes where it lacks one."""

    def part(match: re.Match[str]) -> str:
        names = re.findall(r"\{(\w+)", match[1])
        return match[1] if all(name in fields for name in names) else ""

    return re.sub(r"\[([^\]]*)\]", part, template).format(**fields)

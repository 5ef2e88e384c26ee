"""The check of a model family: that its network is what the study takes it for.

A family says how many parameters it has and what a token costs; laws, budgets and forecasts believe
it. Forks and resumes believe that an update depends on weights, moments and rows alone. A class can
break each of these without an error, so each is tried on one real network.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from windtunnel.accounting import BACKWARD_FACTOR
from windtunnel.config import ModelSpec, Recipe
from windtunnel.errors import ConfigError, Refused
from windtunnel.family import code_of
from windtunnel.model import LanguageModel, build
from windtunnel.model.family import OF_VOCABULARY, forward_flops
from windtunnel.train import checkpoint
from windtunnel.train.step import TrainStep, untrained

ROWS = 4
"""Rows of a batch."""

UPDATES = 6
"""Of the run that is forked in its middle."""

INIT_LOSS = (-0.1, 1.0)
"""Allowed loss at init, over ln V. Logits of std s add s^2 / 2 (derived), and s is 1.4 at the
largest; a network that sees the token to predict lies below (assumed)."""

SAME_LOGITS = 1e-5
"""Largest difference of logits that counts as none, over their root mean square (assumed: fp32
sums in another order)."""

FLOPS_TOLERANCE = 0.05
"""Largest relative difference of FLOPs from torch's own count."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the check.

    Attributes:
        name: What is checked.
        passed: Whether it holds.
        found: What the network does.
        expected: What it should do.
        remedy: What to mend where it does not hold.
    """

    name: str
    passed: bool
    found: str
    expected: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class FamilyCheck:
    """The check of one family at one size."""

    family: str
    size: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every line holds."""
        return all(each.passed for each in self.findings)

    def document(self) -> dict[str, Any]:
        """The check for machines."""
        return asdict(self) | {"passed": self.passed}


def family_check(family: str, model: ModelSpec, recipe: Recipe) -> FamilyCheck:
    """Build the model, and try what the study believes of it; on CPU, in fp32.

    Raises:
        ConfigError: The family's own code fails.
    """
    recipe = recipe.replace(warmup_steps=1, batch_tokens=ROWS * model.context)
    try:
        with code_of(family, "training a few updates"):
            findings = (*_of_network(model, recipe), _fork(model, recipe))
    except Refused as failed:
        raise ConfigError(failed.code, str(failed), **failed.values) from failed
    return FamilyCheck(family=family, size=model.size, findings=findings)


def _of_network(model: ModelSpec, recipe: Recipe) -> Iterator[Finding]:
    network = build(model, recipe)
    yield _roles(network)
    yield from _counts(network, model)
    step = untrained(model, recipe, seed=0)
    rows = _rows(model, seed=0)
    excess = float(step.loss(rows)) - math.log(model.vocab_size)
    low, high = INIT_LOSS
    yield Finding(
        name="loss at init",
        passed=low <= excess <= high,
        found=f"ln V {excess:+.3f} nats",
        expected=f"ln V {low:+.1f} to {high:+.1f}",
        remedy="below: the network sees the token that it predicts; above: its logits are large, "
        "so lower recipe.init_std or give the last norm",
    )
    yield from _sees(step.state.model, torch.from_numpy(rows[:, :-1]))
    yield _flops(step.state.model, model)


def _roles(network: LanguageModel) -> Finding:
    try:
        count, problem = len(network.roles()), ""
    except Refused as refused:
        count, problem = 0, str(refused)
    return Finding(
        name="roles",
        passed=not problem,
        found=problem or f"{count} parameters, each with one",
        expected="one for each parameter",
        remedy="mend `roles` or `patterns` of the family",
    )


def _counts(network: LanguageModel, model: ModelSpec) -> Iterator[Finding]:
    """What the family says against the tensors that exist."""
    roles = network.roles()
    vocabulary = sum(
        weight.numel() for name, weight in network.weights().items() if roles[name] in OF_VOCABULARY
    )
    others = sum(weight.numel() for weight in network.weights().values()) - vocabulary
    for name, said, real in (
        ("params", model.params_total, others),
        ("params_embedding", model.params_embedding, vocabulary),
    ):
        yield Finding(
            name=name,
            passed=said == real,
            found=f"{real:,} in the tensors",
            expected=f"{said:,}, as the family says",
            remedy=f"mend `{name}` of the family's facts",
        )
    yield Finding(
        name="params_active",
        passed=0 < model.params <= others,
        found=f"{model.params:,}, as the family says",
        expected=f"1 to {others:,}",
        remedy="mend `params_active` of the family's facts",
    )


@torch.no_grad()
def _sees(network: LanguageModel, tokens_BT: Tensor) -> Iterator[Finding]:
    """Whether a token changes logits before it, in other rows, and at all."""
    before = network.logits(tokens_BT)
    size = float(before.square().mean().sqrt())
    length, vocabulary = tokens_BT.shape[1], before.shape[-1]
    at = (length // 3, 2 * length // 3, length - 1)
    earlier = elsewhere = later = 0.0
    for position in at:
        changed = tokens_BT.clone()
        changed[0, position] = (changed[0, position] + 1) % vocabulary
        difference = (network.logits(changed) - before).abs()
        earlier = max(earlier, float(difference[0, :position].max()) / size)
        elsewhere = max(elsewhere, float(difference[1:].max()) / size)
        later = max(later, float(difference[0, position:].max()) / size)
    where = ", ".join(map(str, at))
    for name, value, remedy in (
        ("no look ahead", earlier, "mask the attention: a token must change no logit before it"),
        ("rows apart", elsewhere, "let no operation mix rows of a batch (a norm over the batch?)"),
    ):
        yield Finding(
            name=name,
            passed=value <= SAME_LOGITS,
            found=f"{value:.2g} of the logits' size, by tokens {where}",
            expected=f"at most {SAME_LOGITS:g}",
            remedy=remedy,
        )
    yield Finding(
        name="reads its input",
        passed=later > SAME_LOGITS,
        found=f"{later:.2g} of the logits' size, by tokens {where}",
        expected=f"more than {SAME_LOGITS:g}",
        remedy="return logits (B, T, V) that depend on the tokens",
    )


def _flops(network: LanguageModel, model: ModelSpec) -> Finding:
    counted = BACKWARD_FACTOR * forward_flops(network.logits, model.context) / model.context
    said = model.flops_exact_per_token
    return Finding(
        name="FLOPs a token",
        passed=abs(said / counted - 1) <= FLOPS_TOLERANCE,
        found=f"{counted:,.0f} by torch's counter",
        expected=f"{said:,}, as the family says, within {FLOPS_TOLERANCE:.0%}",
        remedy="mend `flops_exact_per_token` of the family's facts: 3 times the forward pass",
    )


def _fork(model: ModelSpec, recipe: Recipe) -> Finding:
    """Train, and train again from a checkpoint of the middle; both must end alike, bit for bit."""
    straight, half = untrained(model, recipe, seed=0), untrained(model, recipe, seed=0)
    _train(straight, model, range(UPDATES))
    _train(half, model, range(UPDATES // 2))
    with TemporaryDirectory() as folder:
        checkpoint.save(half.state, Path(folder, "checkpoint"))
        resumed = untrained(model, recipe, seed=0)
        checkpoint.load(resumed.state, Path(folder, "checkpoint"))
    _train(resumed, model, range(UPDATES // 2, UPDATES))
    differing = [
        name
        for name, weight in straight.state.tensors()[0].items()
        if not torch.equal(weight, resumed.state.tensors()[0][name])
    ]
    rest = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    return Finding(
        name="fork and resume",
        passed=not differing,
        found=f"{differing[0]}{rest} differ" if differing else f"equal after {UPDATES} updates",
        expected="bit for bit the run that was not interrupted",
        remedy="keep no state outside the parameters: no dropout, no running means, no counters",
    )


def _train(step: TrainStep, model: ModelSpec, updates: range) -> None:
    for update in updates:
        step.update(_rows(model, seed=update), 1.0)


def _rows(model: ModelSpec, *, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, model.vocab_size, size=(ROWS, model.context + 1))

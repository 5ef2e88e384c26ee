"""Random studies through `plan`: it plans them, or says file and line."""

import re
from copy import deepcopy
from typing import Any

import pytest
from ruamel.yaml import YAML

BASE = """\
study: fuzzed
data:
  sources: [{path: words.txt, name: words}]
  validation: {fraction: 0.1}
model: {sizes: [16x1, 32x1], head_dim: 16, context: 32}
recipe: {lr: 1e-2, base_width: 16, batch_tokens: 128, warmup_steps: 10}
schedule: {shape: exponential, final_factor: 0.1}
experiments:
  - {kind: scaling, name: law, horizons: [110 steps, 140 steps], seeds: 2, hold_out: none}
  - {kind: grid, name: grid, axes: {recipe.lr: [1e-3, 1e-2], size: [16x1]}, horizons: [120 steps]}
  - kind: search
    name: tune
    size: 16x1
    trials: 4
    space: {recipe.lr: {low: 1e-3, high: 1e-1, log: true}, model.qk_norm: [true, false]}
    horizon: 120 steps
  - kind: branch
    name: ways
    sizes: [16x1]
    forks: [60 steps]
    variants: {plain: {decay: 20 steps}, long: [{stable: 20 steps}, {decay: 20 steps}]}
resources: {concurrency: 2}
store: store
tracking: {enabled: false}
"""
AXES = (
    "size", "model.ffn_ratio", "model.heads_per_kv", "model.width_per_layer", "model.tied",
    "model.head_dim", "model.rope_base", "recipe.batch_tokens", "recipe.warmup_steps",
    "recipe.eps", "recipe.parametrization", "recipe.weight_decay_rule", "recipe.weight_decay",
    "recipe.base_width", "recipe.scale_depth", "recipe.beta2", "schedule.shape",
    "schedule.final_factor", "schedule.decay_fraction", "recipe.nonsense", "model.sizes", "lr",
    "", "a.b.c",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 16, 32, 33, 10**6, 10**30, 0.0, 0.5, 1e-9, 1e300, -0.1,
    float("inf"), float("nan"), "", "x", "16x1", "32", "10N", "0N", "1e9 tokens", "120 steps",
    "99999999999 steps", "mup", "standard", "cosine", "linear", "exponential", "one_minus_sqrt",
    "$HOME/store", "~/store", "s3://bucket/store", "a/../b", "\0", "größe", "x" * 300, "-", "yes",
    [], {}, [[]], [1], ["16x1", "16x1"], {"low": 1, "high": 2}, {"low": 2.5, "high": 1.5},
    {"low": 1e-4, "high": 1e-2, "log": True}, {"low": 1, "high": 64, "points": 3}, [1, 2, 3, 4],
    [0.1, "a", True], ["cosine", "exponential"], [{"decay": "10 steps"}], {"a": {"b": {"c": 1}}},
    {"asha": 1}, [0, 0], 2**63,
)  # fmt: skip
TEXTS = (
    "!!python/tuple [1, 2]", "!!binary aGk=", "!!set {a, b}", "&a [*a]", "*nobody", "!custom x",
    "? [a, b]\n: c", "---\nb: 1", "<<: 3", "\t- tab", "{", "]", "%YAML 9.9", "2020-01-01", "0o17",
    "'", '"\\x', "@", "`", "|\n  text", "a: b: c", "\ufeff", "[" * 200, "1e999", "9" * 5000, "~",
    ".nan", "key: key: key", "- - - -", "#", "!!float x", "!!int 3.5", "\x85", "\x00",
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a tree."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, each in inner:
            found += (
                _places(each, (*path, key)) if isinstance(each, dict | list) else [(*path, key)]
            )
    return found


def _changed(study: dict[str, Any], draw: Any) -> dict[str, Any]:
    """One to three random changes of a study."""
    study = deepcopy(study)
    for _ in range(draw.randint(1, 3)):
        path = draw.choice(_places(study))
        holder: Any = study
        for part in path[:-1]:
            holder = holder[part]
        match draw.randrange(6):
            case 0:
                del holder[path[-1]]
            case 1 if isinstance(holder, dict):
                holder[draw.choice(AXES)] = draw.choice(VALUES)
            case 2 if isinstance(holder, dict):
                holder[draw.choice((1, None, "unknown", "kind", "name"))] = draw.choice(VALUES)
            case _:
                holder[path[-1]] = deepcopy(draw.choice(VALUES))
        if not study:
            break
    for experiment in study.get("experiments") or ():  # axes are where things meet
        if isinstance(experiment, dict) and draw.random() < 0.5:
            for key in ("axes", "space"):
                if isinstance(experiment.get(key), dict):
                    experiment[key][draw.choice(AXES)] = deepcopy(draw.choice(VALUES))
    return study


def _with_text(text: str, draw: Any) -> str:
    """A text with a piece put in, taken out or flipped."""
    place = draw.randrange(len(text))
    match draw.randrange(4):
        case 0:
            return text[:place] + draw.choice(TEXTS) + text[place:]
        case 1:
            lines = text.splitlines(keepends=True)
            line = draw.randrange(len(lines))
            return "".join([*lines[:line], draw.choice(TEXTS) + "\n", *lines[line:]])
        case 2:
            return text[:place] + text[place + draw.randint(1, 40) :]
    return text[:place] + chr(ord(text[place]) ^ (1 << draw.randrange(7))) + text[place + 1 :]


@pytest.mark.medium
def test_random_studies_plan_or_name_their_line(cases, command, tmp_path):
    (tmp_path / "words.txt").write_text("a few words\n\n" * 2000)
    base = YAML(typ="safe", pure=True).load(BASE)
    path = tmp_path / "hparams.yaml"
    refused = 0
    for number, draw in enumerate(cases("studies")):
        if draw.random() < 0.6:
            with path.open("w", encoding="utf-8") as file:
                try:
                    YAML(typ="safe", pure=True).dump(_changed(base, draw), file)
                except Exception:  # not every value can be written
                    continue
        else:
            path.write_text(_with_text(BASE, draw), encoding="utf-8")
        case = f"case {number}\n{path.read_text(encoding='utf-8')}"
        code, _, error = command(case, "plan", path)
        refused += code != 0
        if code:
            assert code == 2, (case, error)
            assert re.search(rf"^error: {re.escape(str(path))}(:\d+)?: ", error), (case, error)
    assert refused, "no case was refused: the suite tests nothing"

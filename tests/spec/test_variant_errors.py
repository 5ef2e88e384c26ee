"""Bad variants of a branch experiment: each is named at its own line, in words of this project."""

import re

import pytest

from windtunnel.errors import ConfigError
from windtunnel.spec import load_study

HEAD = """\
study: turns
data:
  sources: [docs.txt, {path: code.txt, weight: 0}]
model: {sizes: [32x2], head_dim: 16, context: 64}
recipe: {lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 20}
experiments:
  - kind: branch
    name: turn
    forks: [200 steps]
"""
VARIANTS = """\
    variants:
      plain: {}
      a:
        - {}
        - """  # line 13
PYDANTIC = re.compile(
    r"input|tuple|dictionary|instance|integer|string|after validation|\btag", re.I
)


def said_of(tmp_path, text):
    file = tmp_path / "study.yaml"
    file.write_text(f"{HEAD}{text}\n")
    with pytest.raises(ConfigError) as refused:
        load_study(file)
    (line,) = str(refused.value).splitlines()
    return line.removeprefix(f"{file}:")


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("3", " = 3: expected a mapping of keys. Allowed: decay, stable, shape"),
        ("", " is empty: expected a mapping of keys. Allowed: decay"),
        ("{mixture: code}", ".mixture = 'code': expected a mapping of names, each with its value"),
        ("{mixture: [docs, code]}", ".mixture: expected a mapping of names"),
        ("{mixture: {}}", ".mixture: expected a length of at least 1, not 0"),
        ("{mixture: {cod: 1}}", ".mixture.cod: no source of data.sources; did you mean 'code'?"),
        ("{mixture: {code: 0}}", ".mixture: every weight is 0"),
        ("{mixture: {code: half}}", ".mixture.code = 'half': expected a number"),
        ("{mixture: {code: .inf}}", ".mixture.code = inf: expected a finite number"),
        ("{mixture: {code: -1}}", ".mixture.code = -1: expected a number greater than or equal to"),
        ("{decay: 10}", ".decay: 10 is no duration: write a number with its unit"),
        ("{shape: cosin}", ".shape = 'cosin': expected 'exponential', 'linear', 'one_minus_sqrt' "),
        ("{loss: completion}", ": loss: completion, and no source of its mixture has completions"),
        ("{rate: 2}", ".rate = 2: expected a number less than or equal to 1"),
        ("{batch_tokens: 128.5}", ".batch_tokens = 128.5: expected a whole number"),
        ("{batch_tokens: 100}", ": a batch of 100 tokens is no whole number of rows of 64"),
        ("{ramp: 9 steps}", ": ramp without mixture: it says how that changes"),
        ("{mixtures: {code: 1}}", ".mixtures: unknown key; did you mean 'mixture'? Allowed: decay"),
    ],
)
def test_of_a_stage(tmp_path, stage, said):
    found = said_of(tmp_path, VARIANTS + stage)
    assert found.startswith(f"14: experiments[0].variants.a[1]{said}")
    assert not PYDANTIC.search(found)


CHAIN = "expected one stage, such as {decay: 100 steps}, or a list of stages"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("    variants:\n      a:", f"11: experiments[0].variants.a: {CHAIN}"),
        ("    variants:\n      a: decay", f"11: experiments[0].variants.a: {CHAIN}"),
        ("    variants:\n      a: []", "11: experiments[0].variants.a: expected a length of at le"),
        ("    variants:\n      a: {ramp: 9 steps}", "11: experiments[0].variants.a: ramp without"),
        ("    variants:\n      a: {context: 96}", "11: experiments[0].variants.a: a batch of 256 "),
        (
            "    variants:\n      'a:b': {}",
            "11: experiments[0].variants.a:b: expected a name of le",
        ),
        ("    variants: [{}]", "10: experiments[0].variants: expected a mapping of names"),
        ("    variants:", "10: experiments[0].variants is empty: expected a mapping of names"),
        ("    variants: {}", "7: experiments[0]: no variants and no design; give one"),
        (
            "    design:\n      sources:\n        - docs\n        - cod",
            "13: experiments[0].design.sources[1]: 'cod' is no source of data.sources; did you",
        ),
        (
            "    design: {sources: [docs, docs]}",
            "10: experiments[0].design.sources[1]: 'docs' is named twice",
        ),
        (
            "    design: {sources: [docs, code], mixtures_drawn: 1}\n    variants:\n      mix2: {}",
            "12: experiments[0].variants.mix2: also the name of one of the design's",
        ),
        (
            "    variants: {a: {}}\n    sizes: [9x9]",
            "7: experiments[0]: experiment 'turn': size 9x",
        ),
        (
            "    variants: {a: {}}\n  - forks: [9N]",
            "11: experiments[1]: expected a mapping with a ",
        ),
        (
            "    variants: {a: {}}\n  - branch",
            "11: experiments[1] = 'branch': expected a mapping w",
        ),
    ],
)
def test_of_a_variant(tmp_path, text, said):
    found = said_of(tmp_path, text)
    assert found.startswith(said)
    assert not PYDANTIC.search(found)


def test_variants_may_share_keys_through_an_anchor(tmp_path):
    shared = (
        "    variants:\n      a: &code {mixture: {code: 1}}\n      b: {<<: *code, decay: 9 steps}"
    )
    file = tmp_path / "study.yaml"
    file.write_text(f"{HEAD}{shared}\n")
    (experiment,) = load_study(file).experiments
    (stage,) = experiment.variants["b"]
    assert stage.mixture == {"code": 1.0}
    assert str(stage.decay) == "9 steps"
    found = said_of(tmp_path, shared.replace("code: 1", "cod: 1"))
    assert found.startswith("11: experiments[0].variants.a.mixture.cod: ")

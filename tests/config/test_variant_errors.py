"""Bad variants of a branch experiment: each is named at its own line, in words of this project."""

import re

import pytest

from windtunnel.config import load_study
from windtunnel.errors import ConfigError

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
        ("{mixture: {code.txt: 1}}", ".mixture.code.txt: no source of data.sources; did you mean "),
        ("{mixture: {code: 0}}", ".mixture: every weight is 0"),
        ("{mixture: {code: 90%}}", ".mixture.code: '90%': weights are numbers relative to each "),
        ("{mixture: {code: half}}", ".mixture.code = 'half': expected a number"),
        ("{mixture: {code: .inf}}", ".mixture.code = inf: expected a finite number"),
        ("{mixture: {code: -1}}", ".mixture.code = -1: expected a number greater than or equal to"),
        ("{decay: 10}", ".decay: 10 is no duration: write a number with its unit"),
        ("{shape: cosin}", ".shape = 'cosin': expected 'exponential', 'linear', 'one_minus_sqrt' "),
        ("{decay: 100 step}", ".decay: '100 step' is no duration: write a number with its unit"),
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


@pytest.mark.parametrize(
    ("stage", "meant"),
    [
        ("{mixture: {code.txt: 1}}", "; did you mean 'code'? There are: docs, code"),
        ("{mixture: {docs: 1, code: 10%}}", "write 9 and 1 for 90% and 10%"),
        ("{decay: 100 step}", "; did you mean '100 steps'?"),
        ("{decay: 1e5 token}", "; did you mean '1e5 tokens'?"),
        ("{decay: 10n}", "; did you mean '10N'?"),
        ("{decay: 10 epochs}", "for example 10N"),
        ("{shape: sqrt}", "'one_minus_sqrt' or 'cosine'; did you mean 'one_minus_sqrt'?"),
        ("{shape: 1-sqrt}", "; did you mean 'one_minus_sqrt'?"),
        ("{shape: cosin}", "; did you mean 'cosine'?"),
        ("{shape: step}", "'one_minus_sqrt' or 'cosine'"),
        ("{context: 96}", "rows of 96; contexts of 64 or 128 fit; batches of 192 or 288 fit"),
        ("{context: 512}", "rows of 512; contexts of 256 fit; batches of 512 fit"),
        ("{batch_tokens: 1}", "rows of 64; batches of 64 fit"),
    ],
)
def test_what_was_meant_is_guessed(tmp_path, stage, meant):
    assert said_of(tmp_path, VARIANTS + stage).endswith(meant)


@pytest.mark.parametrize(("name", "meant"), [("my mix", "my-mix"), (".a:b", "a-b")])
def test_a_name_that_may_be_is_offered(tmp_path, name, meant):
    said = said_of(tmp_path, f"    variants:\n      '{name}': {{}}")
    assert said.endswith(f"; did you mean {meant!r}?")


def test_the_path_of_a_source_is_no_name_in_a_design_either(tmp_path):
    said = said_of(tmp_path, "    design: {sources: [docs, code.txt]}")
    assert "'code.txt' is no source of data.sources; did you mean 'code'?" in said


@pytest.mark.parametrize("seeds", ["two", "0", "true", "1.5"])
def test_seeds_are_how_many_or_a_list(tmp_path, seeds):
    said = said_of(tmp_path, f"    variants: {{a: {{}}}}\n    seeds: {seeds}")
    assert said.startswith("11: experiments[0].seeds: ")
    assert said.endswith(": expected how many seeds, such as 2, or a list of them, such as [0, 1]")


def test_a_second_experiment_of_a_name_is_told_at_its_own_line(tmp_path):
    again = "  - kind: branch\n    name: turn\n    forks: [9N]\n    variants: {a: {}}"
    said = said_of(tmp_path, f"    variants: {{a: {{}}}}\n{again}")
    assert said.startswith("11: experiments[1]: two experiments are called 'turn'; give this one")


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

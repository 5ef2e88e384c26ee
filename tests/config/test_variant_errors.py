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


def error_of(tmp_path, text):
    file = tmp_path / "study.yaml"
    file.write_text(f"{HEAD}{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_study(file)
    (message,) = str(caught.value).splitlines()
    assert message.startswith(f"{file}:{caught.value.values['line']}: ")
    return caught.value


@pytest.mark.parametrize(
    ("stage", "code", "values"),
    [
        ("3", "wrong-type", {"key": "", "value": 3}),
        ("", "wrong-type", {"key": "", "value": None}),
        ("{mixture: code}", "wrong-type", {"key": ".mixture", "value": "code"}),
        ("{mixture: [docs, code]}", "wrong-type", {"key": ".mixture"}),
        ("{mixture: {}}", "too-few-values", {"key": ".mixture", "least": 1, "length": 0}),
        (
            "{mixture: {cod: 1}}",
            "unknown-source",
            {"key": ".mixture.cod", "value": 1, "source": "cod"},
        ),
        (
            "{mixture: {code.txt: 1}}",
            "unknown-source",
            {"key": ".mixture.code.txt", "value": 1, "source": "code.txt"},
        ),
        ("{mixture: {code: 0}}", "zero-weights", {"key": ".mixture"}),
        ("{mixture: {code: 90%}}", "not-a-number", {"key": ".mixture.code", "value": "90%"}),
        ("{mixture: {code: half}}", "not-a-number", {"key": ".mixture.code", "value": "half"}),
        ("{mixture: {code: .inf}}", "not-finite", {"key": ".mixture.code"}),
        (
            "{mixture: {code: -1}}",
            "out-of-range",
            {"key": ".mixture.code", "value": -1, "least": 0.0},
        ),
        ("{decay: 10}", "not-a-duration", {"key": ".decay", "value": 10}),
        ("{shape: cosin}", "unknown-value", {"key": ".shape", "value": "cosin"}),
        ("{decay: 100 step}", "not-a-duration", {"key": ".decay", "value": "100 step"}),
        ("{loss: completion}", "no-completions", {"key": "", "paired": []}),
        ("{rate: 2}", "out-of-range", {"key": ".rate", "value": 2, "most": 1.0}),
        ("{batch_tokens: 128.5}", "not-whole", {"key": ".batch_tokens", "value": 128.5}),
        ("{batch_tokens: 100}", "not-a-multiple", {"key": "", "batch_tokens": 100, "context": 64}),
        ("{ramp: 9 steps}", "missing-key", {"key": "", "given": "ramp", "needed": "mixture"}),
        ("{mixtures: {code: 1}}", "unknown-key", {"key": ".mixtures"}),
    ],
)
def test_of_a_stage(tmp_path, stage, code, values):
    error = error_of(tmp_path, VARIANTS + stage)
    values = values | {"line": 14, "key": f"experiments[0].variants.a[1]{values['key']}"}
    assert error.code == code
    assert {name: error.values[name] for name in values} == values
    assert not PYDANTIC.search(str(error))


@pytest.mark.parametrize(
    ("text", "code", "values"),
    [
        (
            "    variants:\n      a:",
            "wrong-type",
            {"key": "experiments[0].variants.a", "line": 11, "value": None},
        ),
        (
            "    variants:\n      a: decay",
            "wrong-type",
            {"key": "experiments[0].variants.a", "line": 11, "value": "decay"},
        ),
        (
            "    variants:\n      a: []",
            "too-few-values",
            {"key": "experiments[0].variants.a", "line": 11, "least": 1, "length": 0},
        ),
        (
            "    variants:\n      a: {ramp: 9 steps}",
            "missing-key",
            {"key": "experiments[0].variants.a", "line": 11, "given": "ramp", "needed": "mixture"},
        ),
        (
            "    variants:\n      a: {context: 96}",
            "not-a-multiple",
            {"key": "experiments[0].variants.a", "line": 11, "batch_tokens": 256, "context": 96},
        ),
        (
            "    variants:\n      'a:b': {}",
            "bad-name",
            {"key": "experiments[0].variants.a:b", "line": 11},
        ),
        ("    variants: [{}]", "wrong-type", {"key": "experiments[0].variants", "line": 10}),
        (
            "    variants:",
            "wrong-type",
            {"key": "experiments[0].variants", "line": 10, "value": None},
        ),
        ("    variants: {}", "no-variants", {"key": "experiments[0]", "line": 7}),
        (
            "    design:\n      sources:\n        - docs\n        - cod",
            "unknown-source",
            {
                "key": "experiments[0].design.sources[1]",
                "line": 13,
                "value": "cod",
                "source": "cod",
            },
        ),
        (
            "    design: {sources: [docs, docs]}",
            "duplicate-value",
            {
                "key": "experiments[0].design.sources[1]",
                "line": 10,
                "value": "docs",
                "repeated": "docs",
            },
        ),
        (
            "    design: {sources: [docs, code], mixtures_drawn: 1}\n    variants:\n      mix2: {}",
            "duplicate-name",
            {"key": "experiments[0].variants.mix2", "line": 12, "name": "mix2"},
        ),
        (
            "    variants: {a: {}}\n    sizes: [9x9]",
            "unknown-size",
            {"key": "experiments[0]", "line": 7, "size": "9x9"},
        ),
        (
            "    variants: {a: {}}\n  - forks: [9N]",
            "missing-key",
            {"key": "experiments[1]", "line": 11},
        ),
        (
            "    variants: {a: {}}\n  - branch",
            "wrong-type",
            {"key": "experiments[1]", "line": 11, "value": "branch"},
        ),
    ],
)
def test_of_a_variant(tmp_path, text, code, values):
    error = error_of(tmp_path, text)
    assert error.code == code
    assert {name: str(error.values[name]) for name in values} == {
        name: str(value) for name, value in values.items()
    }
    assert not PYDANTIC.search(str(error))


def test_the_form_of_a_message(tmp_path):
    error = error_of(tmp_path, VARIANTS + "{mixtures: {code: 1}}")
    assert str(error).startswith(
        f"{tmp_path / 'study.yaml'}:14: experiments[0].variants.a[1].mixtures: unknown key; "
        "did you mean 'mixture'? Allowed: decay, stable, "
    )


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
    assert str(error_of(tmp_path, VARIANTS + stage)).endswith(meant)


@pytest.mark.parametrize(("name", "meant"), [("my mix", "my-mix"), (".a:b", "a-b")])
def test_a_name_that_may_be_is_offered(tmp_path, name, meant):
    error = error_of(tmp_path, f"    variants:\n      '{name}': {{}}")
    assert error.code == "bad-name"
    assert str(error).endswith(f"; did you mean {meant!r}?")


def test_the_path_of_a_source_is_no_name_in_a_design_either(tmp_path):
    error = error_of(tmp_path, "    design: {sources: [docs, code.txt]}")
    assert (error.code, error.values["source"]) == ("unknown-source", "code.txt")
    assert "; did you mean 'code'?" in str(error)


@pytest.mark.parametrize("seeds", ["two", "0", "true", "1.5"])
def test_seeds_are_how_many_or_a_list(tmp_path, seeds):
    error = error_of(tmp_path, f"    variants: {{a: {{}}}}\n    seeds: {seeds}")
    assert error.code == "not-a-seed-count"
    assert (error.values["line"], error.values["key"]) == (11, "experiments[0].seeds")


def test_a_second_experiment_of_a_name_is_told_at_its_own_line(tmp_path):
    again = "  - kind: branch\n    name: turn\n    forks: [9N]\n    variants: {a: {}}"
    error = error_of(tmp_path, f"    variants: {{a: {{}}}}\n{again}")
    assert (error.code, error.values["name"]) == ("duplicate-name", "turn")
    assert (error.values["line"], error.values["key"]) == (11, "experiments[1]")


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
    error = error_of(tmp_path, shared.replace("code: 1", "cod: 1"))
    assert (error.code, error.values["line"]) == ("unknown-source", 11)
    assert error.values["key"] == "experiments[0].variants.a.mixture.cod"

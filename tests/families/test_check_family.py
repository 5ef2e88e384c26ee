"""`windtunnel check family`: a sound class passes, and each planted fault fails its own line."""

import json

import pytest

from windtunnel.config import load_study
from windtunnel.errors import ConfigError

SOUND = "faulty:Sound"
FAILS = {
    "LooksAhead": {"no look ahead"},
    "MixesRows": {"rows apart"},
    "KeepsState": {"fork and resume"},
    "MiscountsParams": {"params"},
    "MiscountsEmbedding": {"params_embedding"},
    "TooManyActive": {"params_active"},
    "MiscountsFlops": {"FLOPs a token"},
    "LoudLogits": {"loss at init"},
    "Deaf": {"reads its input"},
}
FAULTS_OF_EXPERTS = {
    "faulty_experts:CostsAll": "FLOPs a token",
    "faulty_experts:ForgetsExperts": "params",
}
REFUSED = {
    "faulty:NoRole": ("no-role", {"parameter": "blocks.0.out.weight"}),
    "faulty:TwoRoles": ("two-roles", {"parameter": "blocks.0.norm.weight"}),
    "faulty:Breaks": ("family-fails", {"cause": "no such layer"}),
    "faulty:Incomplete": (
        "family-incomplete",
        {"lacking": ["takes", "fields", "facts", "build", "roles", "source_files"]},
    ),
    "faulty:NoBuild": ("family-incomplete", {"lacking": ["build"]}),
    "faulty:NoVersion": ("family-incomplete", {"lacking": ["version"]}),
    "faulty:NoPatterns": ("no-role", {"parameter": "token.weight"}),
    "faulty:WantsMore": ("family-fails", {"family": "faulty:WantsMore"}),
    "faulty:ReturnsPair": ("wrong-output", {"found": "tuple", "expected": [1, 32, 256]}),
    "faulty:BadFields": ("family-fails", {"family": "faulty:BadFields"}),
    "faulty:Drops": ("dropout", {"module": "between", "p": 0.1}),
    "faulty:Nowhere": ("family-not-importable", {"module": "faulty"}),
    "broken:Family": ("family-fails", {"cause": "name 'nothing' is not defined"}),
    "no_such_module:Class": ("family-not-importable", {"module": "no_such_module"}),
    "../elsewhere.py:Class": ("unknown-family", {"family": "../elsewhere.py:Class"}),
    "/absolute/elsewhere:Class": ("unknown-family", {"family": "/absolute/elsewhere:Class"}),
    "llama": ("unknown-family", {"family": "llama"}),
    "hf:lama": ("unknown-family", {"family": "hf:lama"}),
    "hf:mixtral": ("no-role", {"parameter": "model.layers.0.mlp.gate.weight"}),
}  # fmt: skip


@pytest.fixture
def of_family(study_file):
    """A study of one family; `model` are further lines of its `model:` section."""

    def write(family, *model):
        lines = [f"family: {family}", *model]
        text = "model:\n" + "".join(f"  {line}\n" for line in lines)
        path = study_file(replace=("model:\n", text))
        if family.startswith("faulty:"):
            path.write_text(path.read_text().replace("  head_dim: 16\n", ""))
        return path

    return write


@pytest.fixture
def checked(windtunnel):
    """`check family --json` of a study: exit status, document, what it says of an error."""

    def check(path):
        code, out, err = windtunnel("check", "family", str(path), "--json")
        return code, json.loads(out) if out else None, err

    return check


@pytest.mark.parametrize(
    "family", [SOUND, "faulty:Views", "faulty:Prints", "minicpm", "minicpm-moe"]
)
def test_a_sound_family_passes(family, of_family, checked):
    code, found, _ = checked(of_family(family))
    assert code == 0
    assert found["passed"]
    assert len(found["findings"]) == 10


@pytest.mark.parametrize("name", FAILS)
def test_a_planted_fault_fails_its_line(name, of_family, checked):
    code, found, _ = checked(of_family(f"faulty:{name}"))
    assert code == 3
    failing = {each["name"] for each in found["findings"] if not each["passed"]}
    assert failing == FAILS[name]


@pytest.mark.parametrize("family", FAULTS_OF_EXPERTS)
def test_a_planted_fault_of_experts_fails_its_line(family, of_family, checked):
    code, found, _ = checked(of_family(family))
    assert code == 3
    failing = [each["name"] for each in found["findings"] if not each["passed"]]
    assert failing == [FAULTS_OF_EXPERTS[family]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "failing"), [("minicpm-moe", set()), ("faulty_experts:UnscaledRouter", {"router"})]
)
def test_the_coordinate_check_of_experts(family, failing, of_family, windtunnel):
    path = of_family(family)
    widths = ("--widths", "32,64,128,256")
    code, out, err = windtunnel("check", "mup", path, *widths, "--json")
    assert code == (3 if failing else 0), err
    found = json.loads(out)
    slopes = [*found["sites"], *found["effective"], *found["propagated"]]
    assert failing <= {
        each["kind"]
        for each in slopes
        if each["judged"] and not each["lowest"] <= each["slope"] <= each["highest"]
    }


@pytest.mark.parametrize("family", REFUSED)
def test_a_class_that_cannot_be_used_is_refused(family, of_family):
    code, values = REFUSED[family]
    with pytest.raises(ConfigError) as refused:
        load_study(of_family(family))
    assert refused.value.code == code
    assert refused.value.values.items() >= values.items()


def test_a_class_that_fails_in_the_check_is_named(of_family, windtunnel):
    path = of_family("faulty:FailsInTraining")
    assert load_study(path).model.family == "faulty:FailsInTraining"
    status, out, err = windtunnel("check", "family", path)
    assert (status, out) == (2, "")
    assert err.endswith("[family-fails]\n")


FIELDS = [
    (SOUND, "shape: {causel: true}", "unknown-shape-field", {"field": "causel"}),
    (SOUND, "shape: {causal: maybe}", "invalid-value", {"field": "causal"}),
    (SOUND, "shape: {causal: {64x9: true}}", "unknown-size", {"field": "causal"}),
    (SOUND, "ffn_ratio: 4", "unknown-shape-field", {"field": "ffn_ratio"}),
    ("hf:llama", "shape: {hidden_size: 64}", "set-elsewhere", {"field": "hidden_size"}),
    ("hf:llama", "shape: {rope_parameters: linear}", "set-elsewhere", {"field": "rope_parameters"}),
    ("hf:granite", "shape: {logits_scaling: 3.0}", "set-elsewhere", {"field": "logits_scaling"}),
    ("hf:llama", "shape: {attention_dropout: 0.1}", "dropout", {"module": "attention_dropout"}),
    ("hf:gpt2", "rope_base: 5e4", "unknown-shape-field", {"field": "rope_base"}),
    ("hf:bloom", "ffn_ratio: 3", "unknown-shape-field", {"field": "ffn_ratio"}),
    ("hf:gpt2", "heads_per_kv: 1\n  kv_heads: 1", "unknown-shape-field", {"field": "kv_heads"}),
]


@pytest.mark.parametrize(("family", "line", "code", "values"), FIELDS)
def test_a_field_that_the_family_does_not_take(family, line, code, values, of_family):
    """Nothing that is given is left out in silence."""
    path = of_family(family, line)
    if "kv_heads: 1" in line:
        path.write_text(path.read_text().replace("[16x1, 32x1]", "[32x1, 64x1]"))
    with pytest.raises(ConfigError) as refused:
        load_study(path)
    assert refused.value.code == code
    assert refused.value.values.items() >= values.items()


def test_what_has_no_site_is_refused(of_family):
    path = of_family(SOUND)
    text = path.read_text()
    for old, new, code in (
        ("  lr: 1e-2", "  lr: 1e-2\n  scale_emb: 4", "no-site"),
        ("  lr: 1e-2", "  lr: 1e-2\n  kv_rule: spectral", "no-site"),
        ("  lr: 1e-2", "  lr: 1e-2\n  parametrization: completep\n  base_depth: 1", "no-site"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(ConfigError) as refused:
            load_study(path)
        assert refused.value.code == code


def test_muP_needs_a_readout_of_its_own(of_family, windtunnel):
    path = of_family("hf:llama")
    with pytest.raises(ConfigError) as refused:
        load_study(path)
    assert refused.value.code == "tied-readout"
    path.write_text(
        path.read_text().replace("  lr: 1e-2", "  lr: 1e-2\n  parametrization: standard")
    )
    assert windtunnel("plan", str(path))[0] == 0

"""`windtunnel check family`: a sound class passes, and each planted fault fails its own line."""

import json

import pytest

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
REFUSED = {
    "faulty:NoRole": ("no-role", "blocks.0.out.weight"),
    "faulty:TwoRoles": ("two-roles", "blocks.0"),
    "faulty:Breaks": ("family-fails", "no such layer"),
    "faulty:Incomplete": ("family-incomplete", "build"),
    "faulty:NoBuild": ("family-incomplete", "lacks build"),
    "faulty:NoVersion": ("family-incomplete", "lacks version"),
    "faulty:NoPatterns": ("no-role", "`patterns`"),
    "faulty:WantsMore": ("family-fails", "missing 1 required"),
    "faulty:ReturnsPair": ("wrong-output", "must return its logits"),
    "faulty:FailsInTraining": ("family-fails", "too many rows"),
    "faulty:BadFields": ("family-fails", "`fields`"),
    "broken:Family": ("family-fails", "name 'nothing' is not defined"),
    "faulty:Nowhere": ("family-not-importable", "no class Nowhere"),
    "no_such_module:Class": ("family-not-importable", "PYTHONPATH"),
    "../elsewhere.py:Class": ("unknown-family", "never by a path"),
    "/tmp/elsewhere:Class": ("unknown-family", "never by a path"),
    "llama": ("unknown-family", "hf:llama"),
    "hf:lama": ("unknown-family", "did you mean 'llama'"),
    "hf:mixtral": ("no-role", "mlp.gate.weight"),
    "faulty:Drops": ("dropout", "between"),
}


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


@pytest.mark.parametrize("family", [SOUND, "faulty:Views", "faulty:Prints", "minicpm"])
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


@pytest.mark.parametrize("family", REFUSED)
def test_a_class_that_cannot_be_used_is_refused(family, of_family, checked):
    code, found, err = checked(of_family(family))
    wanted, part = REFUSED[family]
    assert code == 2
    error = found["error"] if found else None
    assert (error["code"] if error else err.rpartition("[")[2].strip("]\n ")) == wanted
    assert part in (error["message"] if error else err)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["shape: {causel: true}"], "unknown-shape-field"),
        (["shape: {causal: maybe}"], "invalid-value"),
        (["ffn_ratio: 4"], "unknown-shape-field"),
        (["shape: {causal: {64x9: true}}"], "unknown-size"),
    ],
)
def test_a_field_that_the_family_does_not_know(lines, code, of_family, checked):
    path = of_family(SOUND, *lines)
    number = path.read_text().splitlines().index("  " + lines[0]) + 1
    exit_code, _, err = checked(path)
    assert exit_code == 2
    assert f"[{code}]" in err or code in err
    assert f":{number}:" in err or ":6:" in err or "sizes" in err


def test_what_has_no_site_is_refused(of_family, windtunnel):
    path = of_family(SOUND)
    text = path.read_text()
    for old, new, code in (
        ("  lr: 1e-2", "  lr: 1e-2\n  scale_emb: 4", "no-site"),
        ("  lr: 1e-2", "  lr: 1e-2\n  kv_rule: spectral", "no-site"),
        ("  lr: 1e-2", "  lr: 1e-2\n  parametrization: completep\n  base_depth: 1", "no-site"),
    ):
        path.write_text(text.replace(old, new))
        exit_code, _, err = windtunnel("plan", str(path))
        assert exit_code == 2
        assert code in err


def test_muP_needs_a_readout_of_its_own(of_family, windtunnel):
    path = of_family("hf:llama")
    code, _, err = windtunnel("plan", str(path))
    assert code == 2
    assert "tied-readout" in err
    path.write_text(
        path.read_text().replace("  lr: 1e-2", "  lr: 1e-2\n  parametrization: standard")
    )
    assert windtunnel("plan", str(path))[0] == 0

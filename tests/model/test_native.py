"""The native kernels against autograd over the same decoder, on every width of vector."""

import contextlib
import math
import os
import stat

import pytest
import torch

from windtunnel.config import DenseSpec, Recipe
from windtunnel.config.study import Resources
from windtunnel.errors import ConfigError, DataError
from windtunnel.model import build, initialise, native
from windtunnel.model.native import NativePass
from windtunnel.model.native import kernels as library
from windtunnel.train.execution import decide

if library.compiler() is None:
    pytest.skip("no C++ compiler", allow_module_level=True)

SHAPES = {
    "bytes": {"width": 64, "depth": 3, "head_dim": 16, "kv_heads": 4, "context": 64},
    "norms and groups": {
        "width": 64,
        "depth": 2,
        "head_dim": 16,
        "kv_heads": 2,
        "context": 40,
        "qk_norm": True,
    },
    "nothing divides": {
        "width": 48,
        "depth": 1,
        "head_dim": 16,
        "kv_heads": 1,
        "context": 37,
        "vocab_size": 251,
        "tied": False,
    },
    "large heads, deep sums": {
        "width": 192,
        "depth": 1,
        "head_dim": 64,
        "kv_heads": 3,
        "context": 33,
        "qk_norm": True,
    },
    "one position": {"width": 32, "depth": 1, "head_dim": 32, "kv_heads": 1, "context": 2},
}


def model_and_rows(shape, sequences=3):
    spec = DenseSpec(**({"vocab_size": 256} | shape))
    recipe = Recipe(
        lr=0.01, init_std=0.1, base_width=16, batch_tokens=3 * spec.context, warmup_steps=1
    )
    model = build(spec, recipe)
    initialise(model, recipe, init_seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # gains that differ, or a mistake in them would not show
                parameter.mul_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))
    rows = torch.randint(spec.vocab_size, (sequences, spec.context + 1), generator=generator)
    return model, rows


def by_autograd(model, rows, precision="fp32"):
    bf16 = torch.autocast("cpu", torch.bfloat16)
    with bf16 if precision == "bf16" else contextlib.nullcontext():
        loss = model(rows, bool((rows < 0).any()))
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad.zero_()
    return float(loss.detach()), gradients


def differences(model, expected):
    return {
        name: float((p.grad - expected[name]).norm() / expected[name].norm())
        for name, p in model.named_parameters()
    }


@pytest.mark.parametrize("name", SHAPES)
def test_loss_and_gradients_are_autograds(name):
    model, rows = model_and_rows(SHAPES[name])
    loss, expected = by_autograd(model, rows)
    backward = training_pass(model, rows)
    assert loss_of(model, rows) == pytest.approx(loss, rel=1e-6)
    assert backward(rows, 1.0) == pytest.approx(loss, rel=1e-6)
    assert max(differences(model, expected).values()) < 5e-6
    backward(rows, 0.5)  # adds, and takes its share
    expected = {name: 1.5 * gradient for name, gradient in expected.items()}
    assert max(differences(model, expected).values()) < 5e-6


def training_pass(model, rows, precision="fp32"):
    """Adds a share of the gradient; the loss."""
    return NativePass(model, precision, len(rows), gradient=True).run


def loss_of(model, rows):
    return NativePass(model, "fp32", len(rows), gradient=False).run(rows)


def mark(rows):
    """Half of the tokens, and the whole of the second row."""
    which = torch.rand(rows.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    which[1] = True
    return torch.where(which, ~rows, rows)


@pytest.mark.parametrize("name", ["norms and groups", "nothing divides", "one position"])
def test_loss_and_gradients_of_marked_rows_are_autograds(name):
    """test_decoder.py holds autograd's against a loop over tokens."""
    model, rows = model_and_rows(SHAPES[name])
    by_autograd(model, rows)
    backward = training_pass(model, rows)
    backward(rows, 0.0)  # a pass is recorded once, for any share and any marks
    rows = mark(rows)
    loss, expected = by_autograd(model, rows)
    assert loss > 0.0
    assert loss_of(model, rows) == pytest.approx(loss, rel=1e-6)
    assert backward(rows, 1.0) == pytest.approx(loss, rel=1e-6)
    backward(rows, 0.75)
    expected = {name: 1.75 * gradient for name, gradient in expected.items()}
    assert max(differences(model, expected).values()) < 5e-6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_where_nothing_counts_loss_and_gradient_are_zero(precision):
    model, rows = model_and_rows(SHAPES["norms and groups"])
    by_autograd(model, rows)
    backward = training_pass(model, rows, precision)
    assert backward(~rows, 1.0) == 0.0
    assert all(bool((parameter.grad == 0).all()) for parameter in model.parameters())


def test_a_mark_on_the_first_token_of_a_row_changes_no_bit():
    """It is read as before, and predicted in no row."""
    model, rows = model_and_rows(SHAPES["bytes"])
    by_autograd(model, rows)
    backward = training_pass(model, rows)
    loss = backward(rows, 1.0)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=False)
    rows[:, 0] = ~rows[:, 0]
    assert backward(rows, 1.0) == loss
    assert all(torch.equal(p.grad, gradients[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("token", [~256, 256])
def test_an_id_outside_the_vocabulary_is_refused(token):
    model, rows = model_and_rows(SHAPES["bytes"])
    by_autograd(model, rows)
    rows[1, 5] = token
    with pytest.raises(DataError) as refused:
        training_pass(model, rows)(rows, 1.0)
    assert refused.value.code == "out-of-range"
    assert refused.value.values == {"token": 256, "vocab_size": 256}


def test_gates_far_from_zero_are_finite_and_right():
    """exp(1000) is beyond fp32: a gate that far below zero is shut, not garbage."""
    model, rows = model_and_rows(SHAPES["bytes"])
    with torch.no_grad():
        for block in model.layers:
            block.gate_up.mul_(500.0)
    loss, expected = by_autograd(model, rows)
    assert training_pass(model, rows)(rows, 1.0) == pytest.approx(loss, rel=1e-4)
    assert max(differences(model, expected).values()) < 1e-3


def test_a_weight_that_is_no_number_gives_a_loss_that_is_none():
    model, rows = model_and_rows(SHAPES["bytes"])
    with torch.no_grad():
        model.layers[1].qkv[3, 3] = math.nan
    assert math.isnan(loss_of(model, rows))


@pytest.mark.parametrize("marked", [False, True])
def test_bf16_products_are_as_near_to_fp32_as_torchs(marked):
    model, rows = model_and_rows(SHAPES["norms and groups"])
    rows = mark(rows) if marked else rows
    _, exact = by_autograd(model, rows)
    _, autocast = by_autograd(model, rows, "bf16")
    training_pass(model, rows, "bf16")(rows, 1.0)
    ours = differences(model, exact)
    for name, parameter in model.named_parameters():
        parameter.grad.copy_(autocast[name])
    theirs = differences(model, exact)
    assert max(ours.values()) < 1.5 * max(theirs.values())


@pytest.mark.parametrize("architecture", ["x86-64-v4", "x86-64-v3", "x86-64"])
@pytest.mark.medium
def test_every_width_of_vector_gives_the_same_gradients(architecture, monkeypatch, tmp_path):
    """AVX-512, AVX2, and 16-byte vectors as every other processor has them."""
    if os.uname().machine != "x86_64":
        pytest.skip("x86-64 only")
    if architecture == "x86-64-v4" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("no AVX-512 here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flags = tuple(f.replace("native", architecture) for f in library.FLAGS)
    monkeypatch.setattr(library, "FLAGS", flags)
    caches = (library.identity, library._library, library.function)
    for each in caches:
        each.cache_clear()
    try:
        for shape in ("norms and groups", "nothing divides"):
            model, rows = model_and_rows(SHAPES[shape])
            loss, expected = by_autograd(model, rows)
            assert training_pass(model, rows)(rows, 1.0) == pytest.approx(loss, rel=1e-6)
            assert max(differences(model, expected).values()) < 5e-6
    finally:
        for each in caches:
            each.cache_clear()


def execution_of(**resources):
    spec = DenseSpec(**(SHAPES["bytes"] | {"vocab_size": 256} | resources.pop("shape", {})))
    recipe = Recipe(lr=0.01, base_width=16, batch_tokens=spec.context, warmup_steps=1)
    return decide(Resources(device="cpu", **resources), spec, recipe, planned_tokens=0)


def test_the_kernels_are_taken_where_they_can_run_and_named_in_the_record():
    assert execution_of().kernels == f"native {library.identity()}"
    assert execution_of(kernels="torch").kernels == "torch"
    assert execution_of(compile="always").kernels == "torch"
    assert execution_of(cpus_per_trial=2).kernels == "torch"
    assert execution_of(shape={"head_dim": 8, "kv_heads": 8}).kernels == "torch"
    with pytest.raises(ConfigError) as refused:
        execution_of(kernels="native", cpus_per_trial=2, shape={"head_dim": 8, "kv_heads": 8})
    assert refused.value.code == "kernels-cannot-run"
    assert refused.value.values["needs"] == [
        "cpus_per_trial: 1",
        "a head_dim that is a multiple of 16",
    ]


def test_without_a_compiler_torch_runs_and_native_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(native, "identity", lambda: None)
    assert execution_of().kernels == "torch"
    with pytest.raises(ConfigError) as refused:
        execution_of(kernels="native")
    assert refused.value.code == "kernels-cannot-run"
    assert refused.value.values["needs"] == ["a C++ compiler (g++, clang++ or $CXX)"]


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-no-such-flag"))
    with pytest.raises(ConfigError) as refused:
        library._build(tmp_path / "kernels.so")
    assert refused.value.code == "build-failed"
    assert "no-such-flag" in refused.value.values["output"]
    assert list(tmp_path.iterdir()) == []


def test_machine_code_is_the_users_alone(monkeypatch, tmp_path):
    from windtunnel.user_folders import user_cache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = user_cache("native")
    assert folder == tmp_path / "windtunnel" / "native"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(ConfigError, match="belong to you alone"):
        user_cache("native")

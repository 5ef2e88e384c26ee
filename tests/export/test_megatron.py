"""Arguments and module for Megatron-LM, read without it; test_megatron_runs.py runs them."""

import ast
import math
from pathlib import Path

import pytest
from handed import planted_handoff
from megatron_pair import CASES, arguments

from windtunnel.errors import ConfigError
from windtunnel.export.targets import megatron
from windtunnel.mup import Role


def values(folder: Path) -> dict[str, list[str]]:
    """Option -> its values."""
    found: dict[str, list[str]] = {}
    for word in arguments(folder):
        if word.startswith("--"):
            assert word not in found
            found[word] = []
        else:
            found[list(found)[-1]].append(word)
    return found


def numbers(folder: Path) -> dict[str, float]:
    """Options that take one number."""
    found = {}
    for option, words in values(folder).items():
        if len(words) == 1 and words[0][0].isdigit():
            found[option] = float(words[0])
    return found


@pytest.mark.parametrize("name", CASES)
def test_arguments_are_the_handoffs_values(name, write_target):
    handoff = planted_handoff(**CASES[name])
    folder = write_target("megatron", handoff)
    options, model, steps = numbers(folder), handoff.model, handoff.schedule
    shape = {
        "--num-layers": model.depth, "--hidden-size": model.width,
        "--ffn-hidden-size": model.ffn_width, "--num-attention-heads": model.num_heads,
        "--kv-channels": model.head_dim, "--num-query-groups": model.kv_heads,
        "--seq-length": model.context, "--max-position-embeddings": model.context,
        "--rotary-base": model.rope_base, "--vocab-size": model.vocab_size,
        "--padded-vocab-size": model.vocab_size,
    }  # fmt: skip
    assert {option: options[option] for option in shape} == shape
    run = {
        "--train-iters": steps.end, "--lr-decay-iters": steps.end,
        "--lr-warmup-iters": steps.warmup, "--lr-wsd-decay-iters": steps.end - steps.decay_start,
        "--global-batch-size": handoff.batch.rows, "--clip-grad": handoff.recipe.clip,
    }  # fmt: skip
    assert {option: options[option] for option in run} == run
    flags = values(folder)
    assert ("--untie-embeddings-and-output-weights" in flags) is not model.tied
    assert ("--qk-layernorm" in flags) is model.qk_norm
    embedding, hidden = handoff.roles[Role.EMBEDDING], handoff.roles[Role.HIDDEN]
    ratio = model.width / options["--mup-base-hidden-size"]  # mup_width_mult of Megatron
    assert options["--lr"] == embedding.lr
    assert options["--lr"] / ratio == pytest.approx(hidden.lr)
    assert options["--init-method-std"] / math.sqrt(ratio) == pytest.approx(hidden.init_std)
    assert options["--adam-eps"] / ratio == pytest.approx(hidden.eps)
    assert options["--weight-decay"] * options["--windtunnel-matrix-wd-mult"] == pytest.approx(
        hidden.weight_decay
    )
    assert options["--mup-base-head-dim"] ** 0.5 / model.head_dim == pytest.approx(
        handoff.multipliers.attention
    )


def test_no_weight_decay_has_no_multiple(write_target):
    options = numbers(write_target("megatron", planted_handoff(recipe={"weight_decay": 0.0})))
    assert options["--weight-decay"] == 0.0
    assert options["--windtunnel-matrix-wd-mult"] == 1.0


def test_its_forms_of_decay_are_ours_but_for_the_exponential(write_target):
    """megatron/core/optimizer_param_scheduler.py, get_lr, at the argument's commit."""
    theirs = {
        "linear": lambda p: 1.0 - p,
        "cosine": lambda p: 0.5 * (math.cos(math.pi * p) + 1.0),
        "one_minus_sqrt": lambda p: 1.0 - math.sqrt(p),
        "exponential": lambda p: 2.0 * 0.5**p - 1.0,
    }
    furthest = {}
    for shape, coefficient in theirs.items():
        handoff = planted_handoff(schedule={"shape": shape, "decay_fraction": 0.5}, end=100)
        steps, ours = handoff.schedule, handoff.schedule.schedule
        furthest[shape] = max(
            abs(0.1 + 0.9 * coefficient((s - steps.decay_start) / 50) - ours(s))
            for s in range(steps.decay_start, steps.end)
        )
    assert max(furthest[s] for s in ("linear", "cosine", "one_minus_sqrt")) < 1e-15
    assert furthest["exponential"] == pytest.approx(0.166, abs=1e-3)  # at 0.38 of it


def test_a_file_says_what_differs(write_target):
    handoff = planted_handoff(model={"width": 64}, schedule={"shape": "exponential"})
    folder = write_target("megatron", handoff)
    text = (folder / "arguments.sh").read_text()
    header = text[: text.index("WINDTUNNEL_ARGS=(")]
    for said in ("by 0.80829", "matrices, 0.106066", "has 0.15", "is 5e-09 ", "by 2; gains"):
        assert said in header
    for said in ("0.5^p", "= 0.25, the study's", "told 256", "Not run: CUDA, Transformer Engine"):
        assert said in header
    assert f"update {handoff.schedule.decay_start}" in header
    assert megatron.COMMIT[:10] in header
    assert max(map(len, text.splitlines())) <= 120
    module = (folder / "windtunnel_megatron.py").read_text()
    ast.parse(module)
    assert max(map(len, module.splitlines())) <= 120
    assert len(module.splitlines()) < 145


@pytest.mark.parametrize(("rows", "processes"), [(16, 8), (8, 8), (12, 4), (6, 2), (5, 1), (1, 1)])
def test_the_launch_has_processes_that_divide_the_batch(rows, processes, write_target):
    handoff = planted_handoff(recipe={"batch_tokens": 32 * rows})
    text = (write_target("megatron", handoff) / "arguments.sh").read_text()
    assert f"torchrun --nproc_per_node {processes} windtunnel_megatron.py" in text
    assert f"--global-batch-size {rows} " in text


def test_only_a_whole_rotary_base_can_be_said(tmp_path):
    with pytest.raises(ConfigError) as caught:
        megatron.write(planted_handoff(model={"rope_base": 10000.5}), tmp_path)
    assert (caught.value.code, caught.value.values["field"]) == ("unsupported-model", "rope_base")

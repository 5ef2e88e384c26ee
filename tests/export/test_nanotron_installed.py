"""The nanotron target through nanotron's own code, where it is installed.

nanotron imports flash_attn, triton and grouped_gemm even for its configuration, so this file is
skipped without them (docs/export/nanotron.md: how to run it, and on what it was run).
"""

import importlib.util
import math
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from handed import built_in, load_reference, planted_handoff, transformers_spec

from windtunnel.export.targets.nanotron import COMMIT, CONFIG, ENTRY, spectral_rows, write

NEEDED = ("flash_attn", "triton", "grouped_gemm", "nanotron.models.qwen")
UNTIED = {"tied": False}
NAMES = {
    r"model\.token_position_embeddings\.pp_block\.token_embedding\.weight": "embedding",
    r"model\.lm_head\.pp_block\.weight": "readout",
    r"model\.final_layer_norm\.pp_block\.weight": "norm_final",
    r"model\.decoder\.(\d+)\.pp_block\.input_layernorm\.weight": r"blocks.\1.norm_attention",
    r"model\.decoder\.(\d+)\.pp_block\.post_attention_layernorm\.weight": r"blocks.\1.norm_ffn",
    r"model\.decoder\.(\d+)\.pp_block\.attn\.qkv_proj\.weight": r"blocks.\1.qkv",
    r"model\.decoder\.(\d+)\.pp_block\.attn\.o_proj\.weight": r"blocks.\1.out",
    r"model\.decoder\.(\d+)\.pp_block\.mlp\.gate_up_proj\.weight": r"blocks.\1.gate_up",
    r"model\.decoder\.(\d+)\.pp_block\.mlp\.down_proj\.weight": r"blocks.\1.down",
}


def ours(name: str) -> str:
    """The reference's name of one of nanotron's parameters."""
    (found,) = [
        re.sub(theirs, mine, name) for theirs, mine in NAMES.items() if re.match(theirs, name)
    ]
    return found


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """nanotron's process groups over this one process: NCCL on a GPU, else gloo."""
    for package in NEEDED:
        pytest.importorskip(
            package,
            reason=f"{package} is not installed: nanotron of commit {COMMIT} (version 0.4) imports "
            f"{', '.join(NEEDED[:3])}; docs/export/nanotron.md says how to run this",
        )
    from nanotron.parallel import ParallelContext

    class OnThisDevice(ParallelContext):
        def set_device(self):
            if torch.cuda.is_available():
                super().set_device()

    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    store = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        init_method=f"file://{store}",
        rank=0,
        world_size=1,
    )
    yield OnThisDevice(tensor_parallel_size=1, pipeline_parallel_size=1, data_parallel_size=1)
    torch.distributed.destroy_process_group()


def exported(handoff, folder: Path):
    """The exported module and its configuration, read by nanotron."""
    from nanotron.config import get_config_from_file

    folder.mkdir(exist_ok=True)
    write(handoff, folder)
    spec = importlib.util.spec_from_file_location("windtunnel_nanotron", folder / ENTRY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = get_config_from_file(str(folder / CONFIG), config_class=module.WindtunnelConfig)
    return module, config


def assembled(handoff, folder: Path, context, *, fp32: bool = False):
    """Model, optimizer and schedule of the export, made by nanotron's functions.

    As exported: weights in bfloat16, with fp32 masters and gradients. With `fp32`, fp32 alone.
    """
    from nanotron.helpers import init_optimizer_and_grad_accumulator
    from nanotron.models import build_model
    from nanotron.scaling.parametrization import ParametrizationMethod
    from nanotron.trainer import mark_tied_parameters

    module, config = exported(handoff, folder)
    if fp32:
        config.model.dtype, config.optimizer.accumulate_grad_in_fp32 = torch.float32, False
    model = build_model(
        lambda: module.Model(config.model.model_config, context, config.parallelism),
        parallel_context=context,
        dtype=config.model.dtype,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    mark_tied_parameters(model, context, config.parallelism)
    torch.manual_seed(0)
    model.init_model_randomly(config)
    module.add_multipliers(model, config.windtunnel)
    optimizer, accumulator = init_optimizer_and_grad_accumulator(
        ParametrizationMethod.STANDARD, model, config.optimizer, context
    )
    rate = module.assign(optimizer, config.windtunnel, step=0)
    return SimpleNamespace(
        module=module, config=config, model=model, optimizer=optimizer, accumulator=accumulator,
        rate=rate,
    )  # fmt: skip


@torch.no_grad()
def copy_weights(made, reference_model) -> None:
    """Give nanotron's model, and its fp32 masters, the reference's weights."""
    weights = dict(reference_model.named_parameters())
    for name, parameter in made.model.named_parameters():
        parameter.copy_(weights[ours(name)])
        if made.accumulator is not None:
            made.accumulator.get_parameter_for_optimizer(name).copy_(weights[ours(name)])


def micro_batches(rows: torch.Tensor, size: int, device):
    """Rows of (B, T + 1) ids as nanotron's collator gives them, `size` rows at a time."""
    for piece in rows.to(device).split(size):
        count, length = len(piece), piece.shape[1] - 1
        yield {
            "input_ids": piece[:, :-1].contiguous(),
            "position_ids": torch.arange(length, device=device).repeat(count, 1),
            "label_ids": piece[:, 1:].contiguous(),
            "label_mask": torch.ones(count, length, dtype=torch.bool, device=device),
        }


def some_rows(handoff, count: int) -> torch.Tensor:
    """Rows of real bytes: this repository's own prose."""
    text = b"".join(p.read_bytes() for p in sorted(Path(__file__).parents[2].glob("docs/*.md")))
    shape = (count, handoff.model.context + 1)
    return (
        torch.frombuffer(bytearray(text[: math.prod(shape)]), dtype=torch.uint8).long().view(shape)
    )


def test_nanotrons_config_takes_it_and_its_plain_trainer_refuses(context, handoff, tmp_path):
    import dacite
    from nanotron.config import Config, Qwen2Config, RandomInit, get_config_from_file
    from nanotron.config.utils_config import InitScalingMethod

    module, config = exported(handoff, tmp_path)
    assert isinstance(config.model.model_config, Qwen2Config)
    assert isinstance(config.model.init_method, RandomInit)
    assert config.model.init_method.scaling_method is InitScalingMethod.NONE
    assert config.windtunnel.hidden.lr == handoff.roles["hidden"].lr
    with pytest.raises(dacite.UnexpectedDataError, match="windtunnel"):
        get_config_from_file(str(tmp_path / CONFIG), config_class=Config)
    plain = get_config_from_file(str(tmp_path / CONFIG), Config, skip_unused_config_keys=True)
    assert plain.optimizer == config.optimizer
    config.save_as_yaml(tmp_path / "again.yaml")  # as its checkpoints do
    again = get_config_from_file(str(tmp_path / "again.yaml"), module.WindtunnelConfig)
    assert again.windtunnel == config.windtunnel


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("  dp: 1", "  dp: 2"), "8 rows"),
        (("  pp: 1", "  pp: 2"), "pp > 1"),
        (("train_steps: 60", "train_steps: 61"), "ends at 60"),
        (("divisible_by: 1", "divisible_by: 100"), "padded"),
    ],
)
def test_a_changed_yaml_is_refused(change, message, context, handoff, tmp_path):
    from nanotron.config import get_config_from_file

    module, _ = exported(handoff, tmp_path)
    text = (tmp_path / CONFIG).read_text()
    assert change[0] in text
    (tmp_path / "changed.yaml").write_text(text.replace(*change))
    with pytest.raises(ValueError, match=message):
        get_config_from_file(str(tmp_path / "changed.yaml"), module.WindtunnelConfig)


def model_of(shape):
    """Fields of the built-in decoder, or a model of transformers by its name."""
    return transformers_spec(shape) if isinstance(shape, str) else shape


def distinct(handoff):
    """The Handoff with an eps of its own for each role; the table gives all of them one."""
    roles = {
        role: values.model_copy(update={"eps": values.eps * (1 + index)})
        for index, (role, values) in enumerate(handoff.roles.items())
    }
    return handoff.model_copy(update={"roles": roles})


@pytest.mark.parametrize("shape", [{}, UNTIED, "llama"])
def test_every_parameter_has_the_references_values(shape, context, tmp_path):
    handoff = distinct(planted_handoff(model=model_of(shape)))
    reference = load_reference(built_in(handoff), tmp_path / "reference")
    want = {}
    model = reference.Model()
    named = {id(p): name for name, p in model.named_parameters()}
    for group in reference.param_groups(model):
        want |= {named[id(p)]: group for p in group["params"]}

    made = assembled(handoff, tmp_path, context)
    seen = set()
    for group in made.optimizer.get_base_optimizer().param_groups:
        (parameter,) = group["params"]
        name = ours(made.optimizer.id_to_name[id(parameter)])
        seen.add(name)
        values = want[name]
        assert group["initial_lr"] == values["lr"], name
        assert group["lr"] == values["lr"] * reference.factor(0), name
        assert (group["weight_decay"], group["eps"]) == (values["weight_decay"], values["eps"]), (
            name
        )
        assert group["betas"] == values["betas"], name
        std, count = values["init_std"], parameter.numel()
        if std == 0.0:
            assert (parameter == 1.0).all(), name
        else:
            assert abs(parameter.std().item() / std - 1) < 5 / math.sqrt(2 * count), name
    assert seen == set(want)


@pytest.mark.parametrize("shape", ["exponential", "linear", "one_minus_sqrt", "cosine"])
def test_the_schedule_is_ours_and_resumes(shape, context, tmp_path):
    from nanotron.helpers import lr_scheduler_builder

    handoff = planted_handoff(schedule={"shape": shape, "decay_fraction": 0.25}, end=80)
    wanted = handoff.schedule.schedule
    made = assembled(handoff, tmp_path, context)
    rate, peak, got = made.rate, handoff.roles["embedding"].lr, []
    for _ in range(80):
        got.append(rate.get_last_lr()[0])
        rate.optimizer.step()
        rate.step()
    assert got == [peak * wanted(step) for step in range(80)]
    resumed = made.module.assign(made.optimizer, made.config.windtunnel, step=70)
    assert resumed.get_last_lr()[0] == peak * wanted(70)
    # Why theirs is replaced: update 0 runs at rate 0, and every later one is a step behind.
    for group in made.optimizer.get_base_optimizer().param_groups:
        group["lr"] = group["initial_lr"] = peak
    theirs = lr_scheduler_builder(
        made.optimizer, made.config.optimizer.learning_rate_scheduler, total_training_steps=80
    ).lr_lambdas[0]
    assert [theirs(step) for step in range(11)] == pytest.approx([s / 10 for s in range(11)])


def update(made, handoff, rows, context) -> tuple[float, float]:
    """Loss and gradient norm of one of nanotron's updates, in four micro-batches of two rows."""
    from nanotron.optim.clip_grads import clip_grad_norm
    from nanotron.parallel.pipeline_parallel.engine import OneForwardOneBackwardPipelineEngine

    outputs = OneForwardOneBackwardPipelineEngine().train_batch_iter(
        model=made.model,
        pg=context.pp_pg,
        batch=micro_batches(rows, 2, next(made.model.parameters()).device),
        nb_microbatches=handoff.batch.rows // 2,
        grad_accumulator=made.accumulator,
    )
    norm = clip_grad_norm(
        mp_pg=context.mp_pg,
        named_parameters=list(made.model.get_named_params_with_correct_tied()),
        grad_accumulator=made.accumulator,
        max_norm=made.config.optimizer.clip_grad,
    )
    made.optimizer.step()
    made.optimizer.zero_grad()
    made.rate.step()
    return sum(output["loss"].item() for output in outputs), norm.item()


@pytest.mark.parametrize("shape", [{}, UNTIED, {"kv_heads": 6}, "llama"])
@pytest.mark.parametrize("fp32", [True, False])
def test_twenty_updates_are_the_references(fp32, shape, context, tmp_path):
    if fp32 and torch.cuda.is_available():
        pytest.skip("flash-attn has kernels for half precisions only")
    # A clip that bites at times, and an attention factor other than 1 / sqrt(head_dim).
    handoff = planted_handoff(
        model=model_of(shape),
        recipe={"clip": 2.2 if shape == "llama" else 0.9},
        schedule={"decay_fraction": 0.5},
        end=20,
        proxy_head_dim=8,
    )
    reference = load_reference(built_in(handoff), tmp_path / "reference")
    model = reference.Model()
    reference.initialise(model, 3)
    adam = torch.optim.AdamW(reference.param_groups(model))
    made = assembled(handoff, tmp_path, context, fp32=fp32)
    copy_weights(made, model)
    losses, norms, theirs = [], [], []
    for step, rows in enumerate(some_rows(handoff, 160).split(handoff.batch.rows)):
        loss = model(rows)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), handoff.recipe.clip)
        for group in adam.param_groups:
            group["lr"] = handoff.roles[group["role"]].lr * reference.factor(step)
        adam.step()
        adam.zero_grad()
        losses.append(loss.item())
        norms.append(norm.item())
        theirs.append(update(made, handoff, rows, context))
    assert losses[-1] < losses[0] - 0.5
    assert 2 < sum(norm > handoff.recipe.clip for norm in norms) < 18
    loss_tolerance, norm_tolerance = (2e-6, 2e-6) if fp32 else (2e-3, 2e-2)
    assert [loss for loss, _ in theirs] == pytest.approx(losses, rel=loss_tolerance)
    assert [norm for _, norm in theirs] == pytest.approx(norms, rel=norm_tolerance)


def test_the_header_quotes_their_spectral_mup(context, tmp_path):
    from nanotron.scaling.parametrization import (
        LearningRateForSpectralMup,
        SpectralMupParametrizator,
    )

    handoff = planted_handoff(model=UNTIED)
    made = assembled(handoff, tmp_path, context)
    base, hidden = handoff.roles["hidden"].lr, handoff.roles["hidden"]
    rates = LearningRateForSpectralMup(base, made.model.named_modules_in_pp_rank)
    parametrizator = SpectralMupParametrizator(made.config.model)
    parameters = dict(made.model.named_parameters())
    for row in spectral_rows(handoff):
        (name, *_) = [n for n in parameters if row.matrix in n]
        ours_here = handoff.roles["readout"] if row.matrix == "lm_head" else hidden
        assert rates.get_lr(name, parameters[name]) / ours_here.lr == pytest.approx(row.lr)
        std = parametrizator._compute_spectral_std(1.0, row.fan_in, row.fan_out)
        assert std / ours_here.init_std == pytest.approx(row.std)
        assert parameters[name].shape == (row.fan_out, row.fan_in)
    (embedding,) = [name for name in parameters if "token_embedding" in name]
    assert rates.get_lr(embedding, parameters[embedding]) == base

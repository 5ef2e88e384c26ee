"""Tokenizers and trained segments in the folders of the hf target, through transformers."""

import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from handed import planted_handoff
from test_hf_target import helper, loaded, written
from transformers import AutoTokenizer

from windtunnel.config import Branch
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import ConfigError, Diagnostic, StoreError
from windtunnel.export.targets import hf
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study
from windtunnel.train.checkpoint import Damaged


def test_bytes_make_the_round_trip(tmp_path):
    folder = written(planted_handoff(), tmp_path / "hf")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "".join(map(chr, range(1, 0x250))) + "\n\n  日本語 🎉\t<|endoftext|> "
    ids = tokenizer(text).input_ids
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text
    assert tokenizer("a\0b").input_ids == [97, 0, 98]
    assert tokenizer.eos_token_id == 0
    assert tokenizer.decode([97, 0], skip_special_tokens=True) == "a"
    assert len(tokenizer) == 256
    assert tokenizer.decode([0xE6, 0x97]) == "\ufffd"  # a generated text may be cut anywhere


def json_tokenizer(path: Path, text: str) -> Path:
    """A small byte-level BPE that frames each text in <s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<done>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([text], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    made.save(str(path))
    return path


def with_tokenizer(handoff, tokenizer):
    inputs = handoff.inputs.model_copy(update={"tokenizer": str(tokenizer)})
    return handoff.model_copy(update={"inputs": inputs})


def test_a_tokenizer_json_goes_along_while_it_is_there(words, tmp_path):
    path = json_tokenizer(tmp_path / "tokenizer.json", words.read_text())
    handoff = with_tokenizer(planted_handoff(model={"vocab_size": 512}), path)
    folder = written(handoff, tmp_path / "hf")
    assert (folder / "tokenizer.json").read_text() == path.read_text()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("document 7: über", add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == "document 7: über"
    assert "add_special_tokens=False" in (folder / "README.md").read_text()
    assert tokenizer.eos_token_id is None  # <done> is none of the names that we know
    path.unlink()
    folder = written(handoff, tmp_path / "gone")
    assert not list(folder.glob("tokenizer*"))
    assert "not in this folder" in (folder / "README.md").read_text()


def test_ids_of_an_unknown_tokenizer_get_none(tmp_path):
    folder = written(planted_handoff(model={"vocab_size": 512}), tmp_path / "hf")
    assert not list(folder.glob("tokenizer*"))
    assert loaded(folder).config.eos_token_id is None


STUDY = """\
study: small
data:
  sources: [{{path: {text}, name: words}}]
  tokenizer: {tokenizer}
  end_of_text: {end}
  validation: {{fraction: 0.1, tokens: 4096, fork_tokens: 1024}}
model: {{sizes: [64x2], head_dim: 16, heads_per_kv: 2, context: 32, tied: false}}
recipe: {{lr: 1e-2, base_width: 32, batch_tokens: 128, warmup_steps: 10, scale_emb: 3}}
schedule: {{shape: cosine, decay_fraction: 0.3}}
experiments:
  - {{kind: scaling, horizons: [120 steps, 150 steps], seeds: 1}}
store: store
tracking: {{enabled: false}}
"""


@pytest.fixture(scope="module", params=["bytes", "json"])
def swept(request, words, tmp_path_factory):
    """A finished study of three segments: one trunk with two forks, and a branch of each."""
    root = tmp_path_factory.mktemp("swept")
    names = {"tokenizer": "bytes", "end": "null"}
    if request.param == "json":
        json_tokenizer(root / "tokenizer.json", words.read_text())
        names = {"tokenizer": "tokenizer.json", "end": "<done>"}
    path = root / "hparams.yaml"
    path.write_text(STUDY.format(text=words, **names))
    study = open_study(path, prepared=True)
    assert not Sweep(study, engine="local").run().failed
    return study


def segment_folder(study, segment_id, folder):
    folder.mkdir()
    files = hf.write_segment(study, segment_id, folder)
    assert sorted(files) == sorted(folder.iterdir())
    return folder


def test_a_trained_segment_has_the_loss_that_the_store_measured(swept, tmp_path):
    losses = {run.segment: run.loss for run in gather(swept.store, swept.plan)}
    (held_out,) = swept.validation
    for planned in swept.plan.segments:
        folder = segment_folder(swept, planned.id[:12], tmp_path / planned.id)
        model = loaded(folder)
        record = swept.store.segment(planned.id).measurements[planned.end]["words"]
        rows = torch.from_numpy(held_out.rows(32, record["asked"]))
        with torch.no_grad():
            loss = model(input_ids=rows, labels=rows).loss.item()
        assert loss == pytest.approx(record["nats_per_token"], rel=1e-5)
        ours, segment = helper(folder), planned.segment
        steps = range(planned.end)
        assert list(map(ours.schedule, steps)) == list(map(segment.schedule, steps))
        assert losses[planned.id] == pytest.approx(loss, rel=1e-5)
        assert f"{losses[planned.id]:.4f} on words" in (folder / "README.md").read_text()
    assert loss < 0.8 * math.log(model.config.vocab_size)


def test_a_trained_segment_is_saved_reloaded_and_generates(swept, tmp_path):
    folder = segment_folder(swept, swept.plan.branches[0].id, tmp_path / "hf")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = loaded(folder)
    model.save_pretrained(tmp_path / "again")
    again = loaded(tmp_path / "again")
    prompt = tokenizer("document 12", return_tensors="pt", add_special_tokens=False)
    options = {"max_new_tokens": 20, "do_sample": False}
    first, second = model.generate(**prompt, **options), again.generate(**prompt, **options)
    assert torch.equal(first, second)
    assert tokenizer.decode(first[0]).startswith("document 12")
    end = tokenizer.eos_token_id
    assert end == model.config.eos_token_id == model.generation_config.eos_token_id
    assert tokenizer.convert_ids_to_tokens(end) in {"\0", "<done>"}
    source = swept.dataset.sources[0]
    ids = np.fromfile(source.folder / "train.bin", source.dtype).tolist()
    document = ids[: ids.index(end)]  # as the study encoded it, up to what ends it
    text = tokenizer.decode(document)
    assert text.startswith("document ")
    assert tokenizer(text, add_special_tokens=False).input_ids == document


def test_segments_that_cannot_be_exported_are_refused(swept, tmp_path):
    root, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(swept.file.parent, root)  # it is damaged below
    swept = open_study(root / "hparams.yaml")
    out.mkdir()

    def refused(segment_id, error, code, study=swept):
        with pytest.raises(error) as caught:
            hf.write_segment(study, segment_id, out)
        assert not list(out.iterdir())
        assert caught.value.code == code
        return caught.value.values

    assert refused("zz", ConfigError, "unknown-segment")["in_store"] is False
    assert refused("", ConfigError, "unknown-segment")["in_store"] is False
    branch = swept.plan.branches[0]
    empty = replace(swept, plan=swept.plan.model_copy(update={"segments": ()}))
    assert refused(branch.id, ConfigError, "unknown-segment", empty)["in_store"] is True
    seventeen = tuple(  # so that two begin with the same digit
        branch.model_copy(
            update={"segment": Branch(parent=branch.segment.parent, fork_step=1, steps=n)}
        )
        for n in range(1, 18)
    )
    crowded = replace(swept, plan=swept.plan.model_copy(update={"segments": seventeen}))
    (digit, count), *_ = Counter(each.id[0] for each in seventeen).most_common()
    assert len(refused(digit, ConfigError, "ambiguous-segment", crowded)["found"]) == count
    folder = swept.store.segment(branch.id)
    weights = folder.checkpoint(branch.end) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\0\0\0\1")
    with pytest.raises(Damaged):
        hf.write_segment(swept, branch.id, out)
    assert not list(out.iterdir())
    weights.write_bytes(whole)
    record = folder.record
    folder.finish(record | {"outcome": "diverged"})
    refused(branch.id, ConfigError, "diverged")
    (folder.root / "record.json").unlink()
    refused(branch.id, ConfigError, "not-finished")
    folder.finish(record)
    folder.release(branch.end, why="test")
    assert refused(branch.id, StoreError, "missing-checkpoint")["released"] is True


def test_the_card_has_the_warnings_of_the_handoff(tmp_path):
    handoff = planted_handoff()
    warnings = (Diagnostic("validation-in-training", "21% of it"), *handoff.warnings)
    folder = written(handoff.model_copy(update={"warnings": warnings}), tmp_path / "hf")
    card = (folder / "README.md").read_text()
    assert [f"- `{each.code}`: {each.message}" in card for each in warnings] == [True] * len(
        warnings
    )

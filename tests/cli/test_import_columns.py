"""`windtunnel import-runs`: what the columns are, and in which units."""

import json
import math

import pytest
from large_runs import COLUMNS, TAKE, taken

from windtunnel.runs.study import open_study


def test_numbers_for_all_runs_derived_params_and_conditions(study_file, windtunnel, tmp_path):
    study = study_file()
    (tmp_path / "t.csv").write_text(
        "id,C,billions,l,done\na,7.2e19,12,2.6,yes\nb,1.44e20,24,2.5,yes\nc,2e20,30,2.4,no\n"
        "d,3e20,,2.3,yes\n"
    )
    options = ("--flops", "C", "--tokens", "billions", "--loss", "l", "--run", "id", "--scale",
               "billions=1e9", "--lr", "3e-4", "--decayed", "TRUE")  # fmt: skip
    code, out, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--exclude", "done == no"
    )
    assert (code, err) == (0, "")
    assert "1 of 4 runs are left out: done == no (1)" in out
    assert "1 of 3 rows are left out: billions is missing (1)" in out
    found = taken(study)
    assert list(found) == ["a", "b"]
    assert (found["a"].params, found["a"].tokens) == (1_000_000_000, 12_000_000_000)
    assert (found["a"].flops, found["a"].lr) == (7.2e19, 3e-4)
    code, out, _ = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--where", "l < 2.45", "--params",
        "1.1e9", "--where", "done == no",
    )  # fmt: skip
    assert (code, taken(study)["c"].params) == (0, 1_100_000_000)


@pytest.mark.parametrize("condition", ["billions>25e9", "tokens>25e9"])
def test_what_is_excluded_is_read_as_what_is_kept(study_file, windtunnel, tmp_path, condition):
    """By scaled numbers in any spelling, under either name."""
    study = study_file()
    (tmp_path / "t.csv").write_text(
        "id;C;billions;l\na;7,2e19;12;2,6\nb;1,44e20;24;2,5\nc;2e20;30,5;2,4\n"
    )
    code, out, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", "--flops", "C", "--tokens", "billions", "--loss",
        "l", "--run", "id", "--scale", "billions=1e9", "--decayed", "true", "--exclude", condition,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "1 of 3 runs are left out" in out
    assert list(taken(study)) == ["a", "b"]


def test_losses_by_set_and_units(study_file, windtunnel, table):
    """Bytes are the tokens of the default tokenizer: a bit per byte is ln 2 nats per token."""
    study = study_file()
    bits = (*COLUMNS[:4], "--decayed", "true", "--unit", "bits-per-byte")
    code, _, err = windtunnel("import-runs", study, table, *bits, "--loss", "val_loss")
    assert code == 2
    assert "[unknown-unit]" in err
    open_study(study, prepared=True)
    code, out, err = windtunnel("import-runs", study, table, *bits, "--loss-of", "words=val_loss")
    assert (code, err) == (0, "")
    assert "nats per token" not in out
    found = taken(study)["big-0"]
    assert found.loss == pytest.approx(2.5 * math.log(2), rel=1e-12)
    assert found.losses == {"words": found.loss}
    code, _, err = windtunnel("import-runs", study, table, *bits, "--loss-of", "word=val_loss")
    assert code == 2
    assert "[unknown-set]" in err


def test_a_mean_per_byte_over_unlike_sets_is_refused(study_file, windtunnel, words, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    (tmp_path / "digits.jsonl").write_text(
        "".join(json.dumps({"text": f"{i * 7919} {i * 104729} " * 40}) + "\n" for i in range(400))
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False,
                                  special_tokens=["<|end|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train([str(words)], trainer)
    tokenizer.save(str(tmp_path / "bpe.json"))
    sources = f"sources: [{{path: {words}, name: words}}, {{path: digits.jsonl, name: digits}}]"
    study = study_file(
        replace=(
            f"sources: [{{path: {words}, name: words}}]",
            f"{sources}\n  tokenizer: bpe.json\n  end_of_text: <|end|>",
        )
    )
    opened = open_study(study, prepared=True)
    per_token = {each.name: each.bytes_per_token for each in opened.validation}
    assert per_token["words"] > 1.2 * per_token["digits"]
    (tmp_path / "t.csv").write_text("run,n,d,mean,w,x\na,1e9,2e10,1.05,1.0,1.1\n")
    options = ("--params", "n", "--tokens", "d", "--decayed", "true", "--unit", "bits-per-byte")
    code, _, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--loss", "mean"
    )  # fmt: skip
    assert code == 2
    assert "[unknown-unit]" in err
    code, _, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--loss-of", "words=w"
    )
    assert code == 2
    assert "[missing-column]" in err
    code, out, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--loss-of", "words=w",
        "--loss-of", "digits=x",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "the loss is the mean over digits, words" in out
    want = {
        "words": math.log(2) * per_token["words"],
        "digits": 1.1 * math.log(2) * per_token["digits"],
    }
    assert taken(study)["a"].losses == pytest.approx(want)
    assert taken(study)["a"].loss == pytest.approx(sum(want.values()) / 2)


FLOPS = """\
name,N,D,C,val_loss
big-0,1.2e9,2.4e10,{},2.50
big-1,1.2e9,4.8e10,3.456e20,2.41
"""


@pytest.mark.parametrize(
    ("flops", "said"),
    [
        ("1.728e20", ""),
        ("1.7e20", ""),  # 1.6% below
        ("2.16e20", "the FLOPs of 1 of 2 runs are not 6ND: all are 1 to 1.25 times it"),
        ("1.5e20", "the FLOPs of 1 of 2 runs are not 6ND: all are 0.868 to 1 times it"),
        ("1.7e22", "all are 1 to 98.4 times it"),
    ],
)
def test_flops_that_are_not_6nd_are_told(study_file, windtunnel, tmp_path, flops, said):
    study, path = study_file(), tmp_path / "c.csv"
    path.write_text(FLOPS.format(flops))
    code, out, err = windtunnel("import-runs", study, path, *TAKE, "--flops", "C")
    assert (code, err) == (0, "")
    assert ("6ND" in out) == bool(said)
    assert said in out
    assert taken(study)["big-0"].flops == float(flops)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        # 6ND is 1.7e20: no unit makes that of 1e30, nor of 1e30 for all.
        (("--flops", "1e30"), "line 2, column '--flops 1e30': 1e+30 FLOPs are 5.79e+09 times 6ND"),
        (
            ("--flops", "1e28"),
            "line 2, column '--flops 1e28': 1e+28 FLOPs are 5.79e+07 times 6ND = "
            "1.73e+20 of 1.2e+09 params and 2.4e+10 tokens: check the units",
        ),
        (("--flops", "C", "--scale", "C=1e-18"), "a law takes FLOPs: multiply it"),
        (("--flops", "C", "--scale", "C=1e-12"), "if they are teraFLOPs, --scale flops=1e+12"),
        (("--flops", "C", "--scale", "C=1e-9"), "if they are gigaFLOPs, --scale flops=1e+09"),
        (("--flops", "C", "--scale", "D=1e-6"), "if tokens are millions, --scale tokens=1e+06"),
        (("--flops", "C", "--scale", "N=1e-3"), "(or params=1000)"),
        (("--flops", "C", "--where", "D > 3e10", "--scale", "C=200"), "line 3, column 'C'"),
    ],
)
def test_flops_that_cannot_be_are_refused(study_file, windtunnel, tmp_path, options, said):
    study, path = study_file(), tmp_path / "c.csv"
    path.write_text(FLOPS.format("1.728e20"))
    code, out, err = windtunnel("import-runs", study, path, *TAKE, *options)
    assert (code, out) == (2, "")
    assert said in err
    assert not open_study(study).folder.exists()


def test_an_error_lists_the_columns_of_the_source_alone(study_file, windtunnel, table):
    """Not those that stand for `--decayed true` and for a number that holds for all runs."""
    study = study_file()
    numbers = ("--params", "1.2e9", "--decayed", "true")
    for more in (("--loss", "val_los"), ("--trunk", "--decaye"), ("--exclude", "State == x"),
                 ("--where", "State == x"), ("--scale", "M=1e9"), ()):  # fmt: skip
        code, _, err = windtunnel("import-runs", study, table, *numbers, *more)
        assert code == 2
        listed = err.split("There are: ")[1]
        assert listed.startswith("name, N, D, val_loss, lr, good")
        assert "--decayed" not in listed
        assert "--params" not in listed


def test_losses_that_are_per_byte_by_their_name_need_their_unit_said(study_file, windtunnel, table):
    study = study_file()
    table.write_text(table.read_text().replace("val_loss", "val_bpb"))
    options = (*COLUMNS[:4], "--loss", "val_bpb", "--decayed", "true")
    code, out, err = windtunnel("import-runs", study, table, *options)
    assert (code, out) == (2, "")
    assert "column 'val_bpb' is in bits per byte by its name: say --unit bits-per-byte" in err
    code, _, err = windtunnel("import-runs", study, table, *options, "--unit", "nats-per-token")
    assert (code, err) == (0, "")
    assert taken(study)["big-0"].loss == 2.5


def test_losses_in_bits_per_token_become_nats(study_file, windtunnel, table):
    study = study_file()
    table.write_text(table.read_text().replace("val_loss", "bits_per_token"))
    options = (*COLUMNS[:4], "--loss", "bits_per_token", "--decayed", "true")
    code, out, err = windtunnel("import-runs", study, table, *options)
    assert (code, out) == (2, "")
    assert "say --unit bits-per-token" in err
    code, _, err = windtunnel("import-runs", study, table, *options, "--unit", "bits-per-token")
    assert (code, err) == (0, "")
    assert taken(study)["big-0"].loss == pytest.approx(2.5 * math.log(2))


def test_tables_are_read_as_fit_reads_them(study_file, windtunnel, tmp_path):
    study = study_file()
    (tmp_path / "t.csv").write_text(
        "Größe;tokens;val_loss;total_params;active_params;status\n"
        "1,2B;24.000.000.000;2,5;1200000000;400000000;done\n"
        "1,2B;48.000.000.000;2,41;1200000000;400000000;failed\n"
    )
    code, out, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", "--params", "Größe", "--loss", "val_loss",
        "--decayed", "true",
    )  # fmt: skip
    assert (code, err) == (0, "")
    for said in ("semicolons", "decimal sign of this file is a comma", "status is failed (1)",
                 "--params 'active_params'"):  # fmt: skip
        assert said in out
    (run,) = taken(study).values()
    assert (run.params, run.tokens, run.loss) == (1_200_000_000, 24_000_000_000, 2.5)

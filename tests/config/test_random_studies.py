"""Random studies within the schema are planned, or refused with the file and the line."""

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from windtunnel.config import load_study
from windtunnel.errors import WindtunnelError
from windtunnel.runs.points import StudyContext
from windtunnel.runs.search.projection import projected_trials
from windtunnel.runs.search.trial_log import TrialLog
from windtunnel.runs.study import plan_of

NUMBERS = [0, 1, 2, 3, 8, 16, 32, 48, 64, 100, 256, 1024, 10**6, 2**63 - 1]
FLOATS = [1e-320, 1e-8, 0.01, 0.1, 0.25, 0.5, 0.9, 0.999, 1, 1.5, 2.5, 1e5, 1e300]
LONG = ["300 steps", "1000 steps", "1e6 tokens", "10N", "30N"]
DURATIONS = [*LONG * 3, "1 steps", "99 steps", "1e18 steps", "1e18 tokens", "1e-3N", "1e6N"]
FIELDS = {
    "recipe.lr": FLOATS,
    "recipe.base_width": NUMBERS,
    "recipe.batch_tokens": NUMBERS,
    "recipe.warmup_steps": NUMBERS,
    "recipe.init_std": FLOATS,
    "recipe.parametrization": ["mup", "completep", "standard"],
    "recipe.base_depth": [None, *NUMBERS],
    "recipe.weight_decay": [0, *FLOATS],
    "recipe.weight_decay_rule": ["scaled", "constant"],
    "recipe.beta2": [0, *FLOATS],
    "model.width_per_layer": [None, *FLOATS, 8, 16, 17],
    "model.head_dim": NUMBERS,
    "model.ffn_ratio": FLOATS,
    "model.heads_per_kv": NUMBERS,
    "model.tied": [True, False],
    "schedule.shape": ["exponential", "linear", "one_minus_sqrt", "cosine"],
    "schedule.decay_fraction": [None, *FLOATS],
    "schedule.final_factor": [0, *FLOATS],
}


def some(values, least=1):
    return st.lists(st.sampled_from(values), min_size=least, max_size=3, unique_by=repr)


def usual(good, values):
    """Mostly what fits, so that what comes after is reached too."""
    return st.sampled_from([good] * 30 + list(values))


@st.composite
def ranges(draw, values):
    numbers = sorted(each for each in values if type(each) in (int, float))
    low, *_, high = numbers if len(numbers) > 1 else [0, 1]
    if len(numbers) > 2:
        start = draw(st.integers(0, len(numbers) - 2))
        low, high = numbers[start], numbers[draw(st.integers(start + 1, len(numbers) - 1))]
    points = {"points": draw(st.sampled_from([2, 3, 5]))} if draw(st.booleans()) else {}
    return {"low": low, "high": high, "log": draw(st.booleans()) and low > 0} | points


@st.composite
def axes(draw, searched):
    found = {}
    for field in draw(some(list(FIELDS))):
        values = some(FIELDS[field], least=1 + searched)
        found[field] = draw(st.one_of(values, ranges(FIELDS[field])) if searched else values)
    return found


stages = st.fixed_dictionaries(
    {},
    optional={
        "decay": st.sampled_from(DURATIONS),
        "final_factor": st.sampled_from([0, 0.01, 0.1, 1]),
        "shape": st.sampled_from(FIELDS["schedule.shape"]),
        "warmup": st.sampled_from(DURATIONS),
        "rate": st.sampled_from([0.1, 1]),
        "batch_tokens": st.sampled_from([128, 256, 512, 1000]),
        "context": st.sampled_from([16, 32, 48, 64]),
    },
)
experiments = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("scaling"), "horizons": some(DURATIONS), "seeds": usual(1, NUMBERS)}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("grid"), "horizons": some(DURATIONS), "axes": axes(searched=False)}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("search"), "space": axes(searched=True)},
        optional={
            "horizon": st.sampled_from(DURATIONS),
            "trials": usual(3, NUMBERS),
            "sampler": st.sampled_from(["grid", "cmaes", "random", "tpe"]),
            "longer": st.sampled_from([1.5, 1000, 1e300]),
            "top": usual(2, NUMBERS),
        },
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("branch"),
            "forks": some(DURATIONS),
            "variants": st.dictionaries(
                st.sampled_from("abc"), st.lists(stages, min_size=1, max_size=3), min_size=1
            ),
        }
    ),
)
studies = st.fixed_dictionaries(
    {
        "study": st.just("s"),
        "data": st.just({"sources": ["text.txt"]}),
        "model": st.fixed_dictionaries(
            {
                "sizes": usual(["32x1"], [["32x1", "64x2"], [32], ["48x1"], ["1000000x100000"]]),
                "head_dim": usual(16, NUMBERS),
                "context": usual(32, NUMBERS),
            },
            optional={"width_per_layer": usual(16, FLOATS), "ffn_ratio": usual(2.5, FLOATS)},
        ),
        "recipe": st.fixed_dictionaries(
            {
                "lr": usual(0.01, FLOATS),
                "base_width": usual(32, NUMBERS),
                "batch_tokens": usual(256, NUMBERS),
                "warmup_steps": usual(2, NUMBERS),
                "base_depth": usual(2, [None, *NUMBERS]),
            }
        ),
        "experiments": st.lists(experiments, min_size=1, max_size=2, unique_by=lambda e: e["kind"]),
    },
    optional={
        "schedule": st.fixed_dictionaries(
            {}, optional={"final_factor": usual(0.1, [0, 1]), "decay_fraction": usual(0.1, [1])}
        ),
        "resources": st.fixed_dictionaries({}, optional={"micro_batch_tokens": usual(32, NUMBERS)}),
    },
)


def as_yaml(value, indent=0):
    """YAML with a line for each entry, so that lines tell places apart."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        return "".join(f"\n{pad}{key}: {as_yaml(each, indent + 1)}" for key, each in value.items())
    if isinstance(value, list) and value:
        return "".join(f"\n{pad}- {as_yaml(each, indent + 1)}" for each in value)
    if isinstance(value, str):
        return repr(value)
    return (
        {None: "null", True: "true", False: "false"}.get(value, repr(value))
        if (value is None or isinstance(value, bool))
        else repr(value)
    )


@pytest.mark.medium
@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(studies)
def test_a_study_is_planned_or_refused_with_its_line(study):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        file.write_text(as_yaml(study))
        try:
            config = load_study(file)
            study_context = StudyContext(config=config, vocab_size=256, stream="s")
            plan = plan_of(file, study_context, {})
            searches = [each for each in config.experiments if each.kind == "search"]
            expected = {e.name: projected_trials(config, e, TrialLog()) for e in searches}
            plan = plan_of(file, study_context, expected)
        except WindtunnelError as refused:
            for line in str(refused).splitlines():
                assert re.match(rf"{re.escape(str(file))}:\d+: ", line), line
        else:
            assert all(each.end > 0 and each.flops < 1e300 for each in plan.segments)
            assert len({each.id for each in plan.segments}) == len(plan.segments)

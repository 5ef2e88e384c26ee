"""The Handoff's schema: a file that ships, a page that names every key, a validator's opinion."""

import json
import math
import re
from pathlib import Path

import jsonschema
import pytest
from handed import planted_handoff

from windtunnel.errors import FitError
from windtunnel.export import diagnostics, fits
from windtunnel.export.handoff import Estimate
from windtunnel.export.schema import SCHEMA_FILE, schema_text
from windtunnel.laws import Interval

DOCS = Path(__file__).parents[2] / "docs" / "export"


def test_the_file_is_that_of_the_classes():
    assert SCHEMA_FILE.read_text() == schema_text() + "\n", "run `make schema`"


def test_a_handoff_is_valid_by_it():
    schema = json.loads(schema_text())
    document = json.loads(planted_handoff().to_json())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)
    document["roles"]["hidden"]["lr"] = "fast"
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(document))
    assert [list(error.path) for error in errors] == [["roles", "hidden", "lr"]]


def test_the_page_names_every_key():
    page = (DOCS / "json.md").read_text()
    schema = json.loads(schema_text())
    told = {"Handoff", "Counts", "RoleValues", "Multipliers", "BatchChoice", "LrRule", "Steps"}
    told |= {"Kept", "Best", "Winner", "Law"}
    keys = set(schema["properties"]) | {
        key for name in told & set(schema["$defs"]) for key in schema["$defs"][name]["properties"]
    }
    named = set(re.findall(r"`(\w+)`", page))
    assert keys - named - {"of", "experiment"} == set()


def test_the_pages_name_every_warning_and_every_failing_code():
    page = (DOCS / "json.md").read_text()
    source = "".join(path.read_text() for path in Path(diagnostics.__file__).parent.glob("*.py"))
    for code in re.findall(r'Diagnostic\(\s*"([a-z-]+)"', source):
        assert f"`{code}`" in page, code
    index = (DOCS / "README.md").read_text()
    for code in fits.FAILING:
        assert f"`{code}`" in index, code


def test_an_unbounded_interval_has_no_end():
    found = Estimate.of(Interval(2.0, 1.5, math.inf))
    assert (found.low, found.high) == (1.5, None)
    assert 1e9 in found
    assert 1.4 not in found
    with pytest.raises(FitError) as caught:
        Estimate.of(Interval(2.0, 2.1, 2.2))
    assert caught.value.code == "outside-interval"
    assert caught.value.values == {"value": 2.0, "low": 2.1, "high": 2.2}

"""The JSON Schema of a Handoff, for programs that read one; it ships as a file."""

import json
from pathlib import Path

from windtunnel.export.handoff import Handoff

SCHEMA_FILE = Path(__file__).with_name("handoff.schema.json")


def schema_text() -> str:
    """The schema of a written Handoff, from its classes."""
    schema = Handoff.model_json_schema(by_alias=True, mode="serialization")
    return json.dumps(
        {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema, indent=1
    )


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text() + "\n")

"""The JSON Schema of a study file, shipped as a file for completion and checks in editors."""

import json
from pathlib import Path

from windtunnel.config.study import StudyConfig

SCHEMA_FILE = Path(__file__).with_name("study.schema.json")


def schema_text() -> str:
    """The JSON Schema generated from the models."""
    schema = StudyConfig.model_json_schema()
    return json.dumps(
        {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema, indent=1
    )


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text() + "\n")

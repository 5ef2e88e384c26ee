"""Write docs/study.md, every key of a study file, from the models that check it.

python tools/study_reference.py
"""

import json
from pathlib import Path
from typing import Any

from windtunnel.config.study import StudyConfig

TARGET = Path(__file__).resolve().parents[1] / "docs" / "study.md"

HEAD = """\
# Study files

A study file is YAML 1.2. Unknown keys, repeated keys and bare durations are errors. `windtunnel
init` writes a commented file, and `windtunnel plan FILE --resolved` prints every default.
`make schema` generates this page from the models that check a study.

## Files that extend others

`extends: FILE`, or a list of files, layers a study file over others, the last one on top: the same
study on other data, at other sizes or on another machine. Mappings are merged key by key, and items
of `experiments` by name. Anything else is replaced; `null` resets a key to its default. Paths of an
extended file stay relative to that file. `experiments/*/scale-gpu.yaml` are such files.

```yaml
extends: hparams.yaml
study: hparams-on-our-data
data: {sources: [../corpus]}
```

"""


def reference() -> str:
    """The page."""
    schema = StudyConfig.model_json_schema()
    parts = [HEAD, _section("The file", schema, schema)]
    for name, definition in schema["$defs"].items():
        if definition.get("properties"):
            parts.append(_section(name, definition, schema))
    return "\n".join(parts)


def _section(title: str, definition: dict[str, Any], schema: dict[str, Any]) -> str:
    lines = [f"## {title}", "", definition.get("description", "").split("\n\n")[0].strip(), ""]
    lines += ["| key | value | default | |", "| --- | --- | --- | --- |"]
    required = definition.get("required", [])
    for key, value in definition["properties"].items():
        default = "**required**" if key in required else f"`{json.dumps(value.get('default'))}`"
        if key not in required and ("default" not in value or "$ref" in value):
            default = "its defaults" if "$ref" in value else "`{}`"
        said = value.get("description", "")
        lines.append(f"| `{key}` | {_type(value, schema)} | {_cell(default)} | {_cell(said)} |")
    return "\n".join(lines) + "\n"


def _type(value: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value or "oneOf" in value:
        options = value.get("anyOf") or value.get("oneOf")
        return " or ".join(dict.fromkeys(_type(option, schema) for option in options))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    match value.get("type"):
        case "array":
            return f"list of {_type(value.get('items', {}), schema)}"
        case "object":
            of = value.get("additionalProperties", {})
            return f"mapping to {_type(of if isinstance(of, dict) else {}, schema)}"
        case "number" | "integer" as kind:
            return ("number" if kind == "number" else "whole number") + _bounds(value)
        case "string":
            shown = value.get("examples")
            return f"text such as `{'`, `'.join(shown)}`" if shown else "text"
        case "boolean":
            return "`true`, `false`"
        case "null":
            return "nothing"
    return "any value"


def _bounds(value: dict[str, Any]) -> str:
    words = {
        "minimum": ">=",
        "exclusiveMinimum": ">",
        "maximum": "<=",
        "exclusiveMaximum": "<",
    }
    found = [f"{sign} {value[name]:g}" for name, sign in words.items() if name in value]
    return f" {' and '.join(found)}" if found else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(reference())
    print(f"wrote {TARGET}")

"""Write docs/codes.md, every code of an error and a warning, from the package's source.

python tools/codes_page.py
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "windtunnel"
TARGET = ROOT / "docs" / "codes.md"

BASES = {"Coded", "Diagnostic"}
BOUNDARY = ["where", "cause"]
SCHEMA = {
    "missing": ("", "required, and missing"),
    "extra_forbidden": ("`known`", "unknown key. Allowed: {known}"),
    "union_tag_invalid": ("`known`", "unknown kind. Allowed: {known}"),
    "union_tag_not_found": ("`known`", "expected a mapping with a `kind`. Allowed: {known}"),
    "model_attributes_type": ("`known`", "expected a mapping with a `kind`. Allowed: {known}"),
}
"""Values and messages of `windtunnel.config.errors.CODES`, as `config/load` makes them."""
CODE = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")

HEAD = """\
# Codes

Every error and every warning has a stable code. The command line prints it in brackets, and with
`--json` an error is `{"error": {"code": ..., "message": ..., "values": ...}}`. Scripts should read
`code` and `values`, never `message`. A code means the same everywhere. `make schema` generates this
page from the source; `{name}` stands for what a message fills in.

An error of a study file has the values `file`, `line`, `key` and `value` as well, and `errors`, the
list of all errors, where there are several.
"""


VARIABLE = re.compile(r"^\{\w+\}$")


@dataclass(frozen=True, order=True)
class Place:
    """One call that makes an error or a warning."""

    room: str
    code: str
    kind: str
    module: str
    values: str
    message: str


@dataclass
class Survey:
    """Codes by place, and the calls without a literal code, as MODULE:LINE."""

    places: set[Place] = field(default_factory=set)
    uncoded: list[tuple[str, str]] = field(default_factory=list)


def survey() -> Survey:
    """All codes of the package."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if _is_class(node)]
    coded = _subclasses(classes, BASES)
    # A class with a constructor of its own that takes no code gives its code there.
    fixed = {each.name for each in classes if each.name in coded and not _takes_code(each)}
    found = Survey()
    for path, tree in trees.items():
        module = path.relative_to(PACKAGE).with_suffix("").as_posix()
        for owner, names, call in _calls(tree):
            name = _called(call)
            message, values = _message(call), _values(call, names)
            if name == "boundary":
                codes, message, values = [_keyword_code(call)], "{where}: {cause}; {fix}", BOUNDARY
            elif name == "super().__init__" and owner in fixed:
                codes = _codes(call.args)
            elif name in coded - fixed or name == "_refused":
                codes = _codes(call.args)
                if not codes and not _passes_a_code_on(call):
                    found.uncoded.append((_room(module), f"windtunnel/{module}.py:{call.lineno}"))
            else:
                continue
            kind = "warning" if name == "Diagnostic" else "error"
            shown = ", ".join(f"`{value}`" for value in values)
            found.places |= {
                Place(_room(module), code, kind, module, shown, message) for code in codes
            }
    _add_pydantic(found)
    return found


def page(found: Survey) -> str:
    """The page."""
    parts = [HEAD]
    for room in sorted({place.room for place in found.places}):
        lines = [f"## {room}", "", "| code | kind | raised in | values | message |"]
        lines.append("| --- | --- | --- | --- | --- |")
        for place in sorted(each for each in found.places if each.room == room):
            cells = (f"`{place.code}`", place.kind, f"`{place.module}`", place.values)
            lines.append("| " + " | ".join([*cells, _cell(place.message)]) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _room(module: str) -> str:
    return module.split("/", maxsplit=1)[0] if "/" in module else "windtunnel"


def _add_pydantic(found: Survey) -> None:
    """The codes of the schema's own checks, which stand in tables."""
    from windtunnel.config.errors import CODES, EXPECTED, LIMITS

    for code, words in EXPECTED.values():
        fields = re.findall(r"\{(\w+)", words)
        values = ", ".join(f"`{LIMITS[each]}`" for each in fields if each in LIMITS)
        shown = re.sub(r"\{(\w+)[^}]*\}", lambda each: f"{{{LIMITS.get(each[1], each[1])}}}", words)
        found.places.add(
            Place("config", code, "error", "config/errors", values, f"{{key}}: expected {shown}")
        )
    for kind, code in CODES.items():
        values, words = SCHEMA[kind]
        found.places.add(Place("config", code, "error", "config/load", values, f"{{key}}: {words}"))


def _is_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef)


def _subclasses(classes: list[ast.ClassDef], bases: set[str]) -> set[str]:
    """Names of the classes that inherit from `bases`, with these."""
    known = set(bases)
    while True:
        more = {each.name for each in classes if known & {ast.unparse(b) for b in each.bases}}
        if more <= known:
            return known
        known |= more


def _takes_code(node: ast.ClassDef) -> bool:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            arguments = [each.arg for each in (*item.args.posonlyargs, *item.args.args)]
            return "code" in arguments
    return True


def _calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, ast.expr], ast.Call]]:
    """Calls, each with its class and the assignments of its function."""

    def walk(
        node: ast.AST, owner: str, names: dict[str, ast.expr]
    ) -> Iterator[tuple[str, dict[str, ast.expr], ast.Call]]:
        if isinstance(node, ast.ClassDef):
            owner = node.name
        if isinstance(node, ast.FunctionDef):
            names = names | {
                each.targets[0].id: each.value
                for each in ast.walk(node)
                if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
            }
        if isinstance(node, ast.Call):
            yield owner, names, node
        for child in ast.iter_child_nodes(node):
            yield from walk(child, owner, names)

    yield from walk(tree, "", {})


def _called(call: ast.Call) -> str:
    """The name of what is called: `ConfigError`, `errors.ConfigError`, `self._refused`."""
    match call.func:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"):
            return "super().__init__"
        case ast.Attribute(attr=name):
            return name
        case ast.IfExp(body=ast.Name(id=name)):
            return name
    return ""


def _codes(arguments: list[ast.expr]) -> list[str]:
    """The literal codes of a call's first argument: one, or two of a conditional expression."""
    match arguments[:1]:
        case [ast.Constant(value=str(code))] if CODE.match(code) and len(arguments) > 1:
            return [code]
        case [ast.IfExp(body=body, orelse=other)]:
            return [*_codes([body, *arguments[1:]]), *_codes([other, *arguments[1:]])]
    return []


def _keyword_code(call: ast.Call) -> str:
    for each in call.keywords:
        if each.arg == "code" and isinstance(each.value, ast.Constant):
            return str(each.value.value)
    return "unreadable"


def _passes_a_code_on(call: ast.Call) -> bool:
    """Whether the code is that of another error, or a parameter."""
    match call.args[:1]:
        case (
            [ast.Attribute(attr="code")]
            | [ast.Subscript(slice=ast.Constant(value="code"))]
            | [ast.Name(id="code")]
            | [ast.Call(func=ast.Name(id="code_of"))]
        ):
            return len(call.args) > 1
    return False


def _values(call: ast.Call, names: dict[str, ast.expr]) -> list[str]:
    """Names of the values: keywords, and the keys of a dictionary that the function makes."""
    values = list[str]()
    for each in call.keywords:
        if each.arg is not None:
            values.append(each.arg)
        elif isinstance(each.value, ast.Name):
            made = names.get(each.value.id)
            keys = made.keys if isinstance(made, ast.Dict) else []
            values += [str(key.value) for key in keys if isinstance(key, ast.Constant)]
    return values


def _message(call: ast.Call) -> str:
    """The first text after the code; a variable where there is no text."""
    texts = [text for argument in call.args[1:3] if (text := _text(argument))]
    return next((text for text in texts if not VARIABLE.match(text)), texts[0] if texts else "")


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(
                str(part.value) if isinstance(part, ast.Constant) else _text(part) for part in parts
            )
        case ast.FormattedValue(value=value):
            return f"{{{_field(value)}}}"
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=other):
            return " or ".join(each for each in (_text(body), _text(other)) if each)
        case ast.Name() | ast.Attribute() | ast.Call():
            return f"{{{_field(node)}}}"
    return ""


def _field(node: ast.AST) -> str:
    """A name for an expression within a message."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
        case ast.Constant(value=value):
            return str(value)
        case ast.Call(args=[first, *_]):
            return _field(first)
        case ast.Call(func=called):
            return _field(called)
        case ast.Subscript(value=value) | ast.Starred(value=value):
            return _field(value)
        case ast.GeneratorExp(generators=[first, *_]) | ast.ListComp(generators=[first, *_]):
            return _field(first.iter)
        case ast.BinOp(left=left):
            return _field(left)
        case ast.BoolOp(values=[first, *_]):
            return _field(first)
        case ast.IfExp(body=body):
            return _field(body)
    return "..."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


if __name__ == "__main__":
    TARGET.write_text(page(survey()))
    print(f"wrote {TARGET}")

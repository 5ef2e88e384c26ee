"""Tracking URIs: databases in files, whose paths may hold what a URI gives a meaning to."""

import re
from pathlib import Path
from urllib.parse import urlsplit

SQLITE = "sqlite:///"
DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mssql"})


def sqlite_uri(path: Path) -> str:
    """The URI of a database in a file; that of most paths is the path as it stands."""
    text = str(path)
    if not re.search(r"[%?]", text):
        return f"{SQLITE}{text}"
    from sqlalchemy.engine import URL  # quotes as this version of it reads

    return URL.create("sqlite", database=text).render_as_string()


def database_of(uri: str) -> str | None:
    """The path of the file that a sqlite URI names, None for any other URI."""
    if not uri.startswith(SQLITE):
        return None
    if not re.search(r"[%?]", uri):
        return uri.removeprefix(SQLITE)
    from sqlalchemy.engine import make_url

    return make_url(uri).database or ""


def kind_of(uri: str) -> str:
    """`http`, `database`, `folder`, or `other`: who shows what lies there, a server or MLflow's."""
    scheme = urlsplit(uri).scheme.partition("+")[0].lower()
    if scheme in {"http", "https"}:
        return "http"
    if scheme in DATABASES:
        return "database"
    return "folder" if scheme in {"", "file"} and uri != "databricks" else "other"

"""Redaction of secrets; every message, record, report, tag and traceback passes through `redacted`.

A tracking URI may contain a user and a password, a query a key, and exceptions of libraries quote
both. Each secret is replaced by `***`, so that its presence stays visible.
"""

import os
import re

HIDDEN = "***"

SECRET_VARIABLES = (
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "RAY_AUTH_TOKEN", "WANDB_API_KEY",
    "DATABRICKS_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
)  # fmt: skip
"""Environment variables whose values are replaced wherever they occur."""

FEWEST_CHARACTERS = 6
"""Shortest value of a variable that is replaced; shorter ones occur in texts by chance."""

_SCHEME = r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)"
_USER = re.compile(_SCHEME + r"""[^\s/?#"'<>]*@""")
# A password that was not percent-encoded may hold a slash; a port, which is digits, is none.
_RAW_PASSWORD = re.compile(_SCHEME + r"""[^\s/:@"'<>]*:(?!\d*(?:[/?#"'\s]|$))[^\s"'<>]*@""")
_QUERY = re.compile(
    r"""(?P<name>[?&;](?:[A-Za-z0-9_.-]*(?:password|passwd|pwd|secret|token|api_?key|access_?key"""
    r"""|credential|signature)[A-Za-z0-9_.-]*|sig|auth|key)=)[^\s&;#"'<>]+""",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """The text without credentials in URIs, keys in queries, and values of secret variables."""
    if "://" in text:
        text = _RAW_PASSWORD.sub(rf"\g<scheme>{HIDDEN}@", text)
        text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    if "=" in text:
        text = _QUERY.sub(rf"\g<name>{HIDDEN}", text)
    for name in SECRET_VARIABLES:
        secret = os.environ.get(name, "")
        if len(secret) >= FEWEST_CHARACTERS:
            text = text.replace(secret, HIDDEN)
    return text

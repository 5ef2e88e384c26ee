import pytest

from windtunnel.redact import redacted

HIDDEN = {
    "user and password": ("http://alice:s3cret@127.0.0.1:9/x", "http://***@127.0.0.1:9/x"),
    "password with a slash": ("postgresql://u:p@ss/w@h:5432/db", "postgresql://***@h:5432/db"),
    "user alone": ("see http://token@h/p now", "see http://***@h/p now"),
    "empty password": ("mysql+pymysql://root:@localhost/db", "mysql+pymysql://***@localhost/db"),
    "digits as user and password": ("http://1:5000@h", "http://***@h"),
    "in quotes": ("'s3://key:secret@bucket/a'", "'s3://***@bucket/a'"),
    "query": ("http://h/x?token=abc&page=2", "http://h/x?token=***&page=2"),
    "signed": ("https://b/x?X-Amz-Signature=ff&e=1", "https://b/x?X-Amz-Signature=***&e=1"),
    "twice": ("http://a:b@c http://d:e@f", "http://***@c http://***@f"),
}
PLAIN = (
    "http://127.0.0.1:5000/#/experiments/1",
    "http://host:8080/a@b",
    "https://example.org/@user/repo",
    "sqlite:////data/a@b/mlflow.db",
    "mlflow:EXPERIMENT",
    "loss=3.2 key=value",
    "params>=1e9",
)


@pytest.mark.parametrize("name", HIDDEN)
def test_secrets_are_hidden(name):
    text, expected = HIDDEN[name]
    assert redacted(text) == expected
    assert redacted(expected) == expected


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text


def test_values_of_known_variables_are_hidden(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2-hunter2")
    assert redacted("401 for hunter2-hunter2.") == "401 for ***."
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a")  # would hide every a
    assert redacted("a cat") == "a cat"

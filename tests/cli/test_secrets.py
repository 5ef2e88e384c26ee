"""A password in a tracking URI stands in no output and in no file but the one its user wrote."""

import planted
import pytest
from pictures import draw_nothing

SECRET, USER = "s3cretpw", "alicename"
URI = f"http://{USER}:{SECRET}@127.0.0.1:9/?api_key={SECRET}"

COMMANDS = {
    "sync": (["sync", "{study}"], 2),
    "sweep": (["sweep", "{study}", "--engine", "local"], 3),  # a planted store has no checkpoints
    "ui": (["ui", "{study}"], 2),
    "records": (["records", "{study}", "--out", "{out}/records"], 0),
    "report": (["report", "{study}", "--out", "{out}/page.html"], 0),
    "plan": (["plan", "{study}"], 0),
    "plan resolved": (["plan", "{study}", "--resolved"], 0),
    "plan json": (["plan", "{study}", "--json"], 0),
    "runs": (["runs", "{study}", "--json"], 0),
    "status": (["status", "{study}", "--json"], 0),
    "import": (["import-runs", "{study}", "mlflow:theirs", "--params", "params", "--tokens",
                "tokens", "--loss", "loss"], 2),
    "export": (["export", "{study}", "--to", "json", "--shape", "128x5", "--tokens", "2e7",
                "--out", "{out}/handed"], 0),
}  # fmt: skip


@pytest.mark.parametrize("where", ["environment", "study file"])
@pytest.mark.medium
def test_a_password_is_told_to_nobody(windtunnel, tmp_path, monkeypatch, caplog, where):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    study = planted.make_study(tmp_path)
    planted.fill(study)
    planted.write_fit(study)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    if where == "study file":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        study.file.write_text(f"{study.file.read_text()}tracking: {{uri: '{URI}'}}\n")
    out = tmp_path / "out"
    out.mkdir()
    for name, (command, code) in COMMANDS.items():
        parts = [each.format(study=study.file, out=out) for each in command]
        with monkeypatch.context() as patched:
            if (where, name) != ("study file", "report"):  # one page is drawn
                draw_nothing(patched)
            ended, *said = windtunnel(*parts)
        assert (name, ended) == (name, code), said
        assert not [text for text in (*said, caplog.text) if SECRET in text or USER in text], name
        if name in {"sync", "sweep", "ui"}:
            assert "127.0.0.1:9" in "".join(said), name
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != study.file]
    assert {"report.html", "page.html", "study.yaml", "handoffs.jsonl", "plan.json"} <= {
        path.name for path in written
    }
    told = [
        path
        for path in written
        if SECRET.encode() in (content := path.read_bytes()) or USER.encode() in content
    ]
    assert told == []

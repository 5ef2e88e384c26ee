"""Servers that answer otherwise than MLflow does: one error, without the password."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from windtunnel.errors import TrackingError
from windtunnel.tracking.mlflow import answers, connect

ANSWERS = {
    "a page to sign in": (200, "text/html", b"<!DOCTYPE html><html>Sign in</html>", "not-mlflow"),
    "unauthorized": (401, "text/html", b"<html>401</html>", "access-refused"),
    "forbidden": (
        403,
        "application/json",
        b'{"error_code": "PERMISSION_DENIED"}',
        "access-refused",
    ),
    "another service": (404, "text/plain", b"404 page not found", "not-mlflow"),
    "a list": (200, "application/json", b"[]", "not-mlflow"),
    "a text that looks like a page": (
        400,
        "application/json",
        b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "tag <html> is not known"}',
        "mlflow-error",
    ),
    "an error": (500, "text/plain", b"oops", "not-mlflow"),
}


@pytest.fixture
def server():
    """A server on loopback, which gives `server.answer` to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, kind, body, location = self.server.answer
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def asked(server, fix="windtunnel sync"):
    uri = f"http://alice:s3cretpw@127.0.0.1:{server.server_port}"
    with pytest.raises(TrackingError) as told, answers(uri, fix):
        connect(uri).get_experiment_by_name("small")
    text = str(told.value)
    assert told.value.values["uri"] in text
    assert text.endswith(fix)
    assert "s3cretpw" not in text
    assert "alice" not in text
    assert f"127.0.0.1:{server.server_port}" in text
    assert "\n" not in text
    assert len(text) < 600
    return told.value


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_none_of_mlflow(server, case):
    *answer, want = ANSWERS[case]
    server.answer = (*answer, None)
    error = asked(server)
    assert error.code == want
    if case == "a text that looks like a page":
        assert "tag <html> is not known" in error.values["cause"]


def test_a_redirection_without_end(server):
    server.answer = (302, "text/html", b"", "/?token=s3cretpw")
    asked(server)

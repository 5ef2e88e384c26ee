"""A tracking server that hangs, refuses or breaks off: one line of complaint, nothing else."""

import socket
import threading
import time
from contextlib import suppress

import pytest
from sweeps import RunningSweep, assert_recorded_once, results, undisturbed

SETTINGS = {"sizes": "[16x1]", "horizons": "[400 steps, 600 steps]"}


@pytest.fixture
def server():
    """A socket on loopback that behaves as `server.manners` says; counts who came."""

    class Server:
        manners, came = "hang", 0

        def __init__(self):
            self.socket = socket.create_server(("127.0.0.1", 0))
            self.port = self.socket.getsockname()[1]
            self.open = []
            threading.Thread(target=self.serve, daemon=True).start()

        def serve(self):
            while True:
                try:
                    connection, _ = self.socket.accept()
                except OSError:
                    return
                self.came += 1
                if self.manners == "hang":
                    self.open.append(connection)  # and never a word
                    continue
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                connection.close()  # in mid-answer

        def stop(self):
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self.socket.close()

    found = Server()
    yield found
    found.stop()
    for connection in found.open:
        connection.close()


@pytest.mark.parametrize(
    "manners", ["hang", pytest.param("break off", marks=pytest.mark.chaos), "refuse"]
)
@pytest.mark.slow
def test_a_server_that_is_no_help(study_file, known, tmp_path, server, manners):
    path = study_file(**SETTINGS)
    if "tracking" not in known:
        known["tracking"] = undisturbed(path)
    server.manners = manners
    if manners == "refuse":
        server.stop()
    uri = f"http://127.0.0.1:{server.port}"
    path.write_text(path.read_text().replace("{enabled: false}", f"{{uri: '{uri}'}}"))
    began = time.monotonic()
    code, output = RunningSweep(path, "--engine", "local").finish()
    took = time.monotonic() - began
    assert code == 0, output
    assert (server.came > 0) == (manners != "refuse")
    (complaint,) = (line for line in output.splitlines() if line.startswith("tracking:"))
    assert uri in complaint
    assert "windtunnel sync" in complaint
    assert "Traceback" not in output
    assert results(path) == known["tracking"]
    assert_recorded_once(path)
    assert took < 90, output

"""Two nodes on loopback: the second has other packages, home, temporary and working folders."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from windtunnel.config.study import Resources
from windtunnel.engine.ray.data_parallel import make_worker
from windtunnel.engine.ray.preflight import Node, package, preflight_of, slots_of
from windtunnel.engine.ray.settings import prepare_environment
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import ConfigError
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study

SWEEP = [sys.executable, "-c", "from windtunnel.cli import main; main()", "sweep"]
RAY = ["-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
SMALL = ["--num-cpus=1", "--object-store-memory=100000000"]
QUICK_TO_NOTICE = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}


def start(command, log, **options):
    """`ray start` as a process of its own group, once it says that it runs."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, start_new_session=True, **options
        )
    deadline = time.monotonic() + 60
    while "Ray runtime started" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return process


def end(process):
    tree = [process, *psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    for each in tree[1:]:
        if each.is_running():
            each.kill()
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prepare_environment()
    process = start(
        [
            *(sys.executable, *RAY, *SMALL, "--head", "--node-ip-address=127.0.0.1"),
            *(f"--port={port}", "--include-dashboard=false"),
        ],
        tmp_path_factory.mktemp("head") / "ray.log",
        env=os.environ | QUICK_TO_NOTICE,
    )
    yield f"127.0.0.1:{port}"
    end(process)


class Away:
    """The second node: a virtual environment with everything that we have but windtunnel."""

    def __init__(self, root, address):
        self.root, self.address, self.process = root, address, None
        venv.create(root / "venv", with_pip=False)
        here = Path(sysconfig.get_paths()["purelib"])
        self.python = root / "venv" / "bin" / "python"
        self.site = root / "venv" / here.relative_to(sys.prefix)
        for entry in here.iterdir():
            if "windtunnel" not in entry.name and not (self.site / entry.name).exists():
                (self.site / entry.name).symlink_to(entry)
        for folder in ("home", "tmp", "cwd"):
            (root / folder).mkdir()

    def join(self, *through):
        """Start the raylet, by the command `through` if one is given."""
        self.process = start(
            [
                *(*through, self.python, *RAY, *SMALL, f"--address={self.address}"),
                *("--node-ip-address=127.0.0.2", "--node-name=away"),
            ],
            self.root / "ray.log",
            cwd=self.root / "cwd",
            env=os.environ | {"HOME": str(self.home), "TMPDIR": str(self.root / "tmp")},
        )

    @property
    def home(self):
        return self.root / "home"

    def leave(self):
        if self.process is not None:
            end(self.process)
            self.process = None


@pytest.fixture
def away(head, tmp_path):
    node = Away(tmp_path / "away", head)
    yield node
    node.leave()


def run(path, address, **options):
    return subprocess.Popen(
        [*SWEEP, str(path), "--address", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=path.parent,
        **options,
    )


def homes_at_work(store):
    """The HOME of every process that holds a segment now."""
    found = set()
    for lease in store.glob("segments/*/lease.json"):
        try:
            found.add(psutil.Process(json.loads(lease.read_text())["pid"]).environ()["HOME"])
        except (OSError, psutil.Error):
            continue
    return found


def results(path):
    study = open_study(path)
    losses = {run.segment: run.loss for run in gather(study.store, study.plan)}
    curves = {
        each.id: [
            (row["step"], row["loss"], row["grad_norm"])
            for row in study.store.segment(each.id).curve_rows()
        ]
        for each in study.plan.segments
    }
    assert len(losses) == len(study.plan.segments)
    return losses, curves


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_outlives_the_node_that_was_sent_its_code(head, away, study_file, tmp_path):
    path = study_file(
        sizes="[16x2, 32x2]", horizons="[5000 steps, 6500 steps]", replace=("concurrency: 2, ", "")
    )
    Sweep(open_study(path, prepared=True), engine="local").run()
    expected = results(path)
    shutil.move(tmp_path / "store", tmp_path / "undisturbed")

    absent = subprocess.run(
        [away.python, "-c", "import windtunnel"], cwd=away.home, capture_output=True, check=False
    )
    assert b"ModuleNotFoundError" in absent.stderr
    away.join()
    process = run(path, head)
    both = {os.environ["HOME"], str(away.home)}
    while not homes_at_work(tmp_path / "store") >= both:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    time.sleep(0.7)  # past a checkpoint or two
    tree = psutil.Process(away.process.pid).children(recursive=True)
    (raylet,) = [each for each in tree if each.name() == "raylet"]
    raylet.kill()
    killed = time.time()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    study = open_study(path)
    records = [study.store.segment(each.id).record for each in study.plan.segments]
    assert sum(record["written"] > killed for record in records) >= 2
    assert results(path) == expected


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_with_another_version_is_refused(head, away, study_file, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(package(), old / "windtunnel")
    file = old / "windtunnel" / "version.py"
    file.write_text(file.read_text().replace("__version__ = ", "__version__ = '0.0.9' or "))
    (away.site / "old.pth").write_text(  # before Ray sets any path
        f"import sys; sys.path.insert(0, {str(old)!r}); import windtunnel\n"
    )
    away.join()
    process = run(study_file(), head)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "(away, 127.0.0.2): windtunnel is 0.0.9" in output
    assert "install the same version" in output
    assert "Traceback" not in output


def can_hide_folders():
    hide = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(hide, capture_output=True, check=False).returncode == 0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(not can_hide_folders(), reason="needs the right to mount")
def test_a_node_that_does_not_see_the_store_is_refused(head, away, study_file, tmp_path):
    (tmp_path / "store").mkdir()
    away.join(
        *("unshare", "-m", "sh", "-c"),
        f'mount -t tmpfs none {tmp_path / "store"} && exec "$@"',
        "sh",
    )
    process = run(study_file(), head)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "(away, 127.0.0.2)" in output
    assert "storage that every node mounts at the same path" in output
    assert "Traceback" not in output
    assert not list((tmp_path / "store").glob("studies/*/visible-*"))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)  # a minute alone on two cores, and they are shared
def test_a_trial_of_two_devices_trains_what_one_device_does(cluster, study_file, tmp_path):
    found = {}
    for devices, engine in ((1, {"engine": "local"}), (2, {"address": cluster})):
        path = study_file(
            sizes="[16x2]",
            replace=("concurrency: 2", f"kernels: torch, devices_per_trial: {devices}"),
        )
        study = open_study(path, prepared=True)
        result = Sweep(study, **engine).run()
        assert not result.failed, result.errors
        for each in study.plan.segments:
            execution = study.store.segment(each.id).record["execution"]
            assert (execution["devices"], execution["threads"]) == (devices, 1)
        found[devices] = results(path)[1]
        shutil.move(tmp_path / "store", tmp_path / f"of {devices}")
    for segment, rows in found[2].items():
        for (step, loss, _), (same_step, expected, _) in zip(rows, found[1][segment], strict=True):
            assert step == same_step
            assert loss == pytest.approx(expected, rel=1e-4)


def test_what_a_worker_finds_is_what_the_driver_has(tmp_path):
    with preflight_of(tmp_path) as preflight:
        assert preflight.problem_here() is None
    problem = preflight.problem_here()
    assert (problem.code, problem.values) == ("store-not-shared", {"path": tmp_path})


def test_a_worker_without_the_store_stops_the_sweep(tmp_path):
    with preflight_of(tmp_path) as preflight:
        pass
    worker = make_worker(tmp_path / "orders.json", preflight)
    report = worker.run(None, trunk_tokens=0)
    worker.close()
    assert report["outcome"] == "failed"
    assert f"{tmp_path} is not this driver's" in report["halt"]


def node(*, cpus=8.0, gpus=0):
    return Node(id="f" * 56, name="n", address="10.0.0.1", cpus=cpus, gpus=gpus, gpu_kind=None)


@pytest.mark.parametrize(
    ("resources", "nodes", "slots"),
    [
        ({}, [node(cpus=3.0), node(cpus=2.0)], 5),
        ({"cpus_per_trial": 2}, [node(cpus=3.0), node(cpus=3.0)], 2),  # not 6 // 2
        ({"cpus_per_trial": 2, "concurrency": 1}, [node()], 1),
        ({"gpus_per_trial": 0.25}, [node(gpus=1), node(gpus=1)], 8),
        ({"gpus_per_trial": 0.4}, [node(gpus=2)], 4),  # not 2 / 0.4
        ({"gpus_per_trial": 1.0}, [node(cpus=1.0, gpus=4), node(gpus=2)], 3),
        ({"gpus_per_trial": 2, "devices_per_trial": 2}, [node(gpus=1), node(gpus=4)], 2),
        ({"devices_per_trial": 2, "cpus_per_trial": 6}, [node(), node(cpus=3.0)], 1),
    ],
)
def test_slots_are_whole_devices_of_single_nodes(resources, nodes, slots):
    assert slots_of(Resources(**resources), nodes) == slots


def test_a_trial_that_no_node_holds_is_refused():
    with pytest.raises(ConfigError) as refused:
        slots_of(Resources(cpus_per_trial=4), [node(cpus=3.0), node(cpus=3.0)])
    assert refused.value.code == "too-few-resources"
    assert refused.value.values["cpus_per_device"] == 4
    assert refused.value.values["nodes"] == [{"cpus": 3.0, "gpus": 0}] * 2


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        ({"gpus_per_trial": 1.5}, "a share of one card, from 0.01 to 1"),
        ({"gpus_per_trial": 2}, "set devices_per_trial to as many"),
        ({"gpus_per_trial": 1, "devices_per_trial": 2}, "allowed are 0 .* and 2"),
        ({"cpus_per_trial": 3, "devices_per_trial": 2}, "3 does not divide by devices"),
    ],
)
def test_shares_that_no_trial_can_use_are_refused(resources, problem):
    with pytest.raises(ValueError, match=problem):
        Resources(**resources)


def test_each_device_has_a_core_by_default():
    assert Resources(devices_per_trial=3).cpus_per_trial == 3

"""Run one real Apache Kafka without Docker: for the tests and for trying things out, never for production.

    python deploy/local_kafka.py install|run|start|stop|status [--port 9092] [--folder .kafka/broker]

Fetches the broker's jars with Maven (deploy/kafka/pom.xml) into ``.kafka/jars`` once, formats KRaft storage, and starts one node
that is broker and controller, on the loopback address only. Needs Java 17 or newer; Maven only for the first time.
"""

# ruff: noqa: S603, S607 - every command line here is made of our own constants and paths

import argparse
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
JARS = ROOT / ".kafka" / "jars"
POM = ROOT / "deploy" / "kafka" / "pom.xml"
HOST = "127.0.0.1"
READY_S = 90.0
STOP_S = 30.0

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    # a topic nobody made is a mistake here as it is in production
    "auto.create.topics.enable": "false",
    # one node: everything has one replica
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # small and quick: fewer internal partitions, no wait for more members, compaction that can be seen within a test
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    # how soon a broker that was killed may take part again
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    "log.cleaner.backoff.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "500",
}


class KafkaUnavailable(RuntimeError):
    """There is no broker, and the message says what is missing."""


def java() -> str:
    """Return the path of Java 17 or newer. Raises KafkaUnavailable without one."""
    home = os.environ.get("JAVA_HOME")
    path = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if not path or not os.access(path, os.X_OK):
        raise KafkaUnavailable("no Java found: install Java 17 or newer, or set KAFKA_BOOTSTRAP to a running broker")
    version = _property(path, "java.specification.version")
    if not version.isdigit() or int(version) < 17:
        raise KafkaUnavailable(f"Java {version or '(unknown)'} is too old: Kafka needs 17 or newer")
    return path


def _property(path: str, name: str) -> str:
    said = subprocess.run([path, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False, timeout=60).stderr
    return next((line.split("=")[1].strip() for line in said.splitlines() if f" {name} =" in line), "")


def java_version() -> str:
    """Return the version of that Java, such as 17.0.15. Raises KafkaUnavailable without one."""
    return _property(java(), "java.version") or "(unknown)"


def kafka_version() -> str:
    """Return the version of Apache Kafka that is fetched."""
    found = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)</version>", POM.read_text())
    assert found is not None, f"{POM} names no Apache Kafka"
    return found[1]


def jars() -> Path:
    """Return the folder of the broker's jars, after fetching them if need be. Raises KafkaUnavailable when that fails."""
    JARS.parent.mkdir(parents=True, exist_ok=True)
    stamp = JARS / "pom.xml"  # a copy of what was fetched: another version is fetched anew
    with (JARS.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may start at once
        if stamp.exists() and stamp.read_bytes() == POM.read_bytes():
            return JARS
        mvn = shutil.which("mvn")
        if not mvn:
            raise KafkaUnavailable("no Maven found to fetch Apache Kafka with: install it, or set KAFKA_BOOTSTRAP to a running broker")
        with tempfile.TemporaryDirectory(dir=JARS.parent) as fresh:
            fetch = [
                mvn,
                "-q",
                "-B",
                "-f",
                str(POM),
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                f"-DoutputDirectory={fresh}",
            ]
            done = subprocess.run(fetch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600)
            if done.returncode != 0:
                raise KafkaUnavailable(f"Apache Kafka could not be fetched:\n{done.stdout[-2000:]}")
            shutil.copy(POM, fresh)
            shutil.rmtree(JARS, ignore_errors=True)
            shutil.copytree(fresh, JARS)
    return JARS


def docker_answers() -> bool:
    """Say whether a Docker daemon runs that can be asked for a container."""
    docker = shutil.which("docker")
    try:
        return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def container_properties(port: int) -> dict[str, str]:
    """Return the broker's properties for a container that is reached at ``port`` on the loopback address."""
    return PROPERTIES | {
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:9094",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": "1@127.0.0.1:9094",
    }


def free_port() -> int:
    """Return a port on the loopback address that was free a moment ago."""
    with socket.socket() as s:
        s.bind((HOST, 0))
        port: int = s.getsockname()[1]
        return port


class LocalKafka:
    """One broker as a child process; use it as a context manager.

    ``port`` 0 takes any free one. ``folder`` holds data, configuration and log; without it a temporary one is made, and removed by
    ``stop``. ``properties`` override or add to the broker's. ``listeners`` name more of them and their protocols, such as
    ``{"SECURE": "SASL_SSL"}``; ``listener`` says where each is. ``advertised`` names where clients of a listener are sent instead,
    ``host:port``, such as a proxy before it. ``bootstrap`` is where clients connect; it stays over ``restart``.
    """

    def __init__(
        self,
        port: int = 0,
        folder: Path | None = None,
        heap: str = "512m",
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        advertised: Mapping[str, str] | None = None,
        detached: bool = False,
    ) -> None:
        self._temporary = folder is None
        self.folder = Path(folder) if folder else Path(tempfile.mkdtemp(prefix="local-kafka-"))
        self._port = port
        self._heap = heap
        self._protocols = dict(listeners or {})
        self._more_ports: dict[str, int] = {}
        self._advertised = dict(advertised or {})
        self._properties = dict(properties or {})
        self._detached = detached  # outlives this process
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients."""
        return f"{HOST}:{self._port}"

    def listener(self, name: str) -> str:
        """Return ``host:port`` of a further listener."""
        return f"{HOST}:{self._more_ports[name]}"

    @property
    def pid(self) -> int | None:
        """The process id of the broker, or None while it does not run."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether the broker's process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """The broker's own log: warnings and errors."""
        return self.folder / "server.log"

    def __enter__(self) -> "LocalKafka":
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> "LocalKafka":
        """Start the broker and wait until it answers. Raises KafkaUnavailable with the end of its log when it does not."""
        if self._process is not None:
            raise RuntimeError("already started")
        command = [java(), f"-Xmx{self._heap}", "-Xms64m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp", f"{jars()}/*"]
        command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "server.properties"
        fixed = self._port != 0 or (self.folder / "data").exists()
        for attempt in range(5):
            self._configure(config)
            self._format(command, config)
            self._spawn([*command, "kafka.Kafka", str(config)])
            if self._wait_ready():
                return self
            said = self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
            self.kill()
            # a free port can be taken by another process before the broker binds it: take another
            if fixed or "Address already in use" not in said or attempt == 4:
                break
            self._port = 0
            self._more_ports = {}
        raise KafkaUnavailable(f"Apache Kafka did not start on {self.bootstrap}:\n{said}")

    def stop(self) -> None:
        """Stop the broker in an orderly way, and remove its folder if it is a temporary one."""
        self._end(signal.SIGTERM)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End the broker at once (SIGKILL), as a power cut would; its data stay for ``restart``."""
        self._end(signal.SIGKILL)

    def restart(self) -> "LocalKafka":
        """Start again on the same port and data, after an orderly stop if it still runs."""
        self._end(signal.SIGTERM)
        return self.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Freeze the broker (SIGSTOP) while the block runs: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _configure(self, config: Path) -> None:
        self._port = self._port or free_port()
        known = config.read_text() if config.exists() else ""
        controller = next((line.rpartition(":")[2] for line in known.splitlines() if line.startswith("controller.quorum.voters=")), "")
        controller = controller or str(free_port())  # the quorum's address is part of the data
        for name in self._protocols:
            self._more_ports.setdefault(name, free_port())
        places = {name: f"{HOST}:{port}" for name, port in {"PLAINTEXT": self._port, **self._more_ports}.items()}
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **self._protocols}
        values = PROPERTIES | {
            "listeners": _listeners(places | {"CONTROLLER": f"{HOST}:{controller}"}),
            "advertised.listeners": _listeners(places | self._advertised),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "log.dirs": str(self.folder / "data"),
        }
        config.write_text("".join(f"{k}={v}\n" for k, v in (values | self._properties).items()))

    def _format(self, command: Sequence[str], config: Path) -> None:
        if (self.folder / "data" / "meta.properties").exists():
            return
        cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "A")  # the tool takes no leading dash
        tool = [*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)]
        done = subprocess.run(tool, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
        if done.returncode != 0:
            raise KafkaUnavailable(f"the broker's storage could not be formatted:\n{done.stdout[-2000:]}")

    def _spawn(self, command: Sequence[str]) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, start_new_session=True
            )
        if not self._detached:
            # when this process ends, however it ends, its end of the pipe closes and the broker goes too
            script = f"read -r _; kill -9 {self._process.pid}"
            self._watchdog = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)

    def _wait_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if answers(HOST, self._port):
                return True
            time.sleep(0.1)
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._watchdog is not None:  # first: the process id may be given to another once the broker is gone
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def _listeners(places: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{place}" for name, place in places.items())


def answers(host: str, port: int) -> bool:
    """Say whether a broker there knows at least one live broker (itself): a Metadata request, version 1, for no topic."""
    client = b"local-kafka"
    body = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    try:
        with socket.create_connection((host, port), timeout=2) as s:
            s.sendall(struct.pack(">i", len(body)) + body)
            answer = b""
            while len(answer) < 12:  # size, correlation id, number of brokers
                part = s.recv(4096)
                if not part:
                    return False
                answer += part
    except OSError:
        return False
    brokers: int = struct.unpack(">i", answer[8:12])[0]
    return brokers >= 1


def _running(pid_file: Path) -> int | None:
    """Return the process id in the file if that process is the broker of this folder."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return None
    said = subprocess.run(["ps", "-p", str(pid), "-o", "args=", "-ww"], capture_output=True, text=True, check=False).stdout
    return pid if str(pid_file.parent / "server.properties") in said else None


def _stop(pid_file: Path) -> str:
    pid = _running(pid_file)
    if pid is None:
        return "not running"
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while _running(pid_file) is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    pid_file.unlink()
    return "stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, start or stop the broker from the command line."""
    parser = argparse.ArgumentParser(description="One real Apache Kafka for tests and for trying things out, without Docker.")
    parser.add_argument("do", choices=["install", "run", "start", "stop", "status"])
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--folder", type=Path, default=ROOT / ".kafka" / "broker", help="data, configuration and log")
    parser.add_argument("--heap", default="1g", help="the most memory of the Java heap")
    chosen = parser.parse_args(arguments)
    if chosen.do == "install":
        try:
            print(f"Apache Kafka is in {jars().relative_to(ROOT)}, for {java()}")
        except KafkaUnavailable as e:
            print(e, file=sys.stderr)
            return 1
        return 0
    folder: Path = chosen.folder.resolve()
    pid_file = folder / "pid"
    pid = _running(pid_file)
    if chosen.do == "status":
        print(f"running, process {pid}" if pid else "not running")
        return 0 if pid else 1
    if chosen.do == "stop":
        print(_stop(pid_file))
        return 0
    if pid:
        print(f"already running, process {pid}")
        return 0 if chosen.do == "start" else 1
    broker = LocalKafka(chosen.port, folder, chosen.heap, detached=chosen.do == "start")
    try:
        broker.start()
    except KafkaUnavailable as e:
        print(e, file=sys.stderr)
        return 1
    pid_file.write_text(str(broker.pid))
    print(f"Apache Kafka on {broker.bootstrap}, log in {broker.log}", flush=True)
    if chosen.do == "run":
        ends = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        try:
            while signal.sigtimedwait(ends, 1) is None:
                if not broker.alive:
                    print(f"the broker ended by itself, see {broker.log}", file=sys.stderr)
                    return 1
        finally:
            broker.stop()
            pid_file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

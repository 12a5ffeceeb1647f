"""A MariaDB server of the test's own, which may be stopped, killed and started otherwise."""

import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql

START_TIMEOUT_S = 60


class OwnServer:
    """A server in a folder of its own, on a port that stays the same; root has no password and comes by TCP."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = _find_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets = tempfile.TemporaryDirectory(prefix="faults-")  # pytest's folders are too long for a socket
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={folder}",
                "--user=root",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
            ],
            check=True,
            capture_output=True,
        )

    def start(self, *options: str) -> Any:
        """Start it, and return a connection that may do anything."""
        self._process = subprocess.Popen(
            [
                "mariadbd",
                "--no-defaults",
                "--user=root",
                f"--datadir={self.folder}",
                f"--socket={self._sockets.name}/s",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                "--skip-log-bin",
                "--innodb-buffer-pool-size=64M",
                "--innodb-fast-shutdown=2",
                "--character-set-server=utf8mb4",
                *options,
            ],
            stderr=subprocess.DEVNULL,
        )
        return self.connect()

    def connect(self) -> Any:
        """Wait until it answers, and return a connection."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return pymysql.connect(
                    host="127.0.0.1",
                    port=self.port,
                    user="root",
                    charset="utf8mb4",
                    autocommit=True,
                    init_command="SET time_zone='+00:00', sql_mode='', character_set_server=utf8mb4",
                )
            except pymysql.OperationalError:
                assert self._process is not None
                assert self._process.poll() is None, "the server has ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.1)

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it as an operator would."""
        assert self._process is not None
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self.kill()

    def forget(self) -> None:
        """Remove the folder of its socket."""
        self._sockets.cleanup()


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""A MySQL server that loses its connections and comes back read-only: F12."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from own_server import OwnServer
from tcp_proxy import Fault
from trial import Trial

DRIVERS = ["connectorx", "pymysql"]
MID_ROW = 300_000
pytestmark = pytest.mark.slow_fault


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server with an empty data folder, not started."""
    if os.geteuid() != 0 or not shutil.which("mariadb-install-db"):
        pytest.skip("needs root, and MariaDB on this machine")
    server = OwnServer(tmp_path_factory.mktemp("mariadb"))
    yield server
    server.forget()


@pytest.fixture
def server(own_server: OwnServer) -> Iterator[Any]:
    """A connection to the server of the test's own, which all that follows takes for MySQL."""
    connection = own_server.start()
    yield connection
    connection.close()
    own_server.stop()


@pytest.fixture
def mysql_environment(own_server: OwnServer) -> dict[str, str]:
    """The variables of the server of the test's own."""
    return {"MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": str(own_server.port), "MYSQL_USER": "root", "MYSQL_PASSWORD": ""}


@pytest.mark.fault("F12", "connections are reset in the middle of the rows, and the server is read-only from then on")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_failover_to_a_read_only_server_is_no_error(large: Trial, driver: str) -> None:
    large.project.configure("mysql", driver=driver)

    def fail_over() -> None:
        large.project.cursor.execute("SET GLOBAL read_only=1")
        large.mysql.reset_all()

    large.mysql.fault = Fault(fail_over, MID_ROW, times=1)

    run = large.run()

    assert run.code == 0
    large.project.cursor.execute("SELECT @@global.read_only")
    assert large.project.cursor.fetchone() == (1,)
    large.heal(lambda: large.project.cursor.execute("SET GLOBAL read_only=0"))

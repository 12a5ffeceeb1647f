"""A MySQL server that ends and comes back, comes back read-only, or lives elsewhere: F11, F12, F13."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_server import OwnServer
from project import Project, days_ago, last_days, without_footer
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


@pytest.mark.fault("F11", "MySQL is restarted, or killed by SIGKILL, in the middle of the rows, and comes back")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("end", [OwnServer.stop, OwnServer.kill])
def test_a_server_that_comes_back_is_asked_again(large: Trial, own_server: OwnServer, driver: str, end: Any) -> None:
    large.project.configure("mysql", driver=driver)

    def restart() -> None:
        large.mysql.go_down()
        end(own_server)
        own_server.start().close()
        ours = large.project.cursor.connection
        database, ours.db = ours.db, None  # it was chosen after the login
        ours._force_close()
        ours.connect()
        ours.select_db(database.decode())
        ours.db = database
        large.mysql.come_up()

    large.mysql.fault = Fault(restart, MID_ROW, times=1)

    run = large.run()

    assert run.code == 0
    assert "trying once more" in run.output
    large.heal()


ELSEWHERE = [
    "--default-time-zone=+09:00",
    "--sql-mode=",
    "--character-set-server=latin1",
    "--collation-server=latin1_swedish_ci",
    "--init-connect=SET NAMES latin1, time_zone='-05:00'",
    "--lower-case-table-names=1",
]


@pytest.mark.fault("F13", "a server in Asia/Tokyo, of no SQL mode, latin1, lower_case_table_names=1")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_lives_elsewhere_gives_the_same_bytes(
    own_server: OwnServer, mysql_environment: dict[str, str], tmp_path: Path, s3: Any, bucket: str, driver: str
) -> None:
    database, objects = f"elsewhere_{driver}", []
    for number, options in enumerate(([], ELSEWHERE)):
        with own_server.start(*options) as connection:
            cursor = connection.cursor()
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4")
            cursor.execute("CREATE USER IF NOT EXISTS reader@'%' IDENTIFIED BY 'reader'")
            cursor.execute(f"GRANT SELECT ON {database}.* TO reader@'%'")
            connection.select_db(database)
            connection.db = database.encode()
            reader = mysql_environment | {"MYSQL_USER": "reader", "MYSQL_PASSWORD": "reader"}
            environment = dict(os.environ) | reader
            project = Project(tmp_path, cursor, s3, bucket, f"{database}_{number}", environment)
            project.configure("mysql", driver=driver)
            if not number:
                project.add_reports(last_days(2))
                cursor.execute("ALTER TABLE reports ADD seen TIMESTAMP NULL, ADD name VARCHAR(20), ADD at DATETIME(6)")
                cursor.execute(
                    "UPDATE reports SET seen = '2026-03-29 01:30:00', name = 'Größe 😀', at = '2026-03-29 02:30'"
                )
            else:
                project.configure("table.reports", date_column="date_start", since=str(days_ago(2)))
                project.configure("table.reports", decode="encoded -> decoded: base64")
            run = project.luigi("Backfill", "--table", "reports")
            assert run.returncode == 0, run.stdout
            keys = [project.key(day) for day in last_days(2)]
            objects.append([without_footer(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys])
        own_server.stop()

    assert objects[0] == objects[1]

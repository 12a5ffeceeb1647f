import os
from collections.abc import Iterator
from datetime import date
from typing import Any

import pymysql
import pytest
from invariants import CANARY
from project import Project, days_ago, last_days
from s3_proxy import S3Proxy
from tcp_proxy import TcpProxy
from trial import Trial


@pytest.fixture
def canary_user(project: Project) -> Iterator[str]:
    """A user who may SELECT in the project's database, and whose password must stand nowhere."""
    database = project.cursor.connection.db.decode()
    user = f"u{database[-12:]}"
    project.cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (user, CANARY))
    project.cursor.execute(f"GRANT SELECT ON `{database}`.* TO %s@'%%'", (user,))
    project.environment |= {"MYSQL_USER": user, "MYSQL_PASSWORD": CANARY}
    yield user
    project.cursor.execute("DROP USER %s@'%%'", (user,))


@pytest.fixture
def mysql_proxy(project: Project, canary_user: str) -> Iterator[TcpProxy]:
    """A proxy to MySQL, which luigi takes for the server, and which TLS would tell nothing."""
    host, port = project.environment["MYSQL_HOST"], int(project.environment["MYSQL_PORT"])
    # MySQL asks for a password itself, which goes by TLS only, at a user's first login and not again.
    user, password = project.environment["MYSQL_USER"], project.environment["MYSQL_PASSWORD"]
    pymysql.connect(host=host, port=port, user=user, password=password.encode()).close()
    project.configure("mysql", ssl_mode="DISABLED")
    proxy = TcpProxy((host, port))
    project.environment |= {"MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": str(proxy.port)}
    yield proxy
    proxy.stop()


@pytest.fixture
def s3_proxy(project: Project) -> Iterator[S3Proxy]:
    """A proxy to S3, which luigi takes for the server; the tests' own client goes past it."""
    proxy = S3Proxy(os.environ["S3_ENDPOINT_URL"], project.s3.put_object)
    project.environment["S3_ENDPOINT_URL"] = proxy.url
    yield proxy
    proxy.stop()


@pytest.fixture
def trial(
    request: pytest.FixtureRequest, project: Project, canary_user: str, mysql_proxy: TcpProxy, s3_proxy: S3Proxy
) -> Iterator[Trial]:
    """A project without tables behind two proxies; who runs it under a fault must heal it."""
    trial = Trial(project, mysql_proxy, s3_proxy, canary_user)
    yield trial
    request.node.user_properties += [("trials", trial.runs), ("losses", len(trial.lost))]
    if not request.node.stash.get(FAILED, False):
        assert trial.is_healed, "the test does not say that the fault heals"


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    if call.excinfo is not None:
        item.stash[FAILED] = True
    return report


@pytest.fixture
def small(trial: Trial) -> Trial:
    """A trial of two days of twenty rows."""
    trial.days = last_days(2)
    trial.project.add_reports(trial.days)
    return trial


@pytest.fixture
def large(trial: Trial) -> Trial:
    """A trial of one day of some 6 MB, which is read in slices of one."""
    trial.days = [days_ago(1)]
    add_large_reports(trial.project, trial.days[0], rows=4096, row_bytes=1024)
    trial.project.configure("table.reports", slice_mb="1")
    return trial


def add_large_reports(project: Project, day: date, rows: int, row_bytes: int) -> None:
    """Make the example table with one day of rows that do not compress."""
    project.add_reports([], since=str(day))
    project.add_numbers(rows)
    project.cursor.execute(
        "INSERT INTO reports (date_start, account, spend, encoded) "
        f"SELECT '{day}', 1, 1.5, TO_BASE64(RANDOM_BYTES({row_bytes})) FROM numbers"
    )
    project.cursor.execute("ANALYZE TABLE reports")
    project.cursor.fetchall()

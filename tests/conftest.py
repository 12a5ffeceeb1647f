import os
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import luigi
import pymysql
import pytest
from luigi.configuration.cfg_parser import LuigiConfigParser
from project import Project, last_days

pytest_plugins = ["fault_report"]


def pytest_configure() -> None:
    missing = [name for name in ("MYSQL_URL", "S3_ENDPOINT_URL") if not os.environ.get(name)]
    if missing:
        pytest.exit(f"{' and '.join(missing)} not set: run ./scripts/test, which starts the servers", returncode=4)


@pytest.fixture(scope="session")
def mysql_environment() -> dict[str, str]:
    """The variables that the shipped luigi.cfg names, from MYSQL_URL."""
    url = urlsplit(os.environ["MYSQL_URL"])
    return {
        "MYSQL_HOST": url.hostname or "",
        "MYSQL_PORT": str(url.port or 3306),
        "MYSQL_USER": unquote(url.username or ""),
        "MYSQL_PASSWORD": unquote(url.password or ""),
    }


@pytest.fixture(scope="session")
def server(mysql_environment: dict[str, str]) -> Iterator[Any]:
    """A connection that may do anything, in no database."""
    connection = pymysql.connect(
        host=mysql_environment["MYSQL_HOST"],
        port=int(mysql_environment["MYSQL_PORT"]),
        user=mysql_environment["MYSQL_USER"],
        password=mysql_environment["MYSQL_PASSWORD"].encode(),  # type: ignore[arg-type]
        charset="utf8mb4",
        autocommit=True,
        init_command="SET time_zone='+00:00', sql_mode=''",
    )
    with connection:
        yield connection


@pytest.fixture
def cursor(server: Any) -> Iterator[Any]:
    """A cursor in a database of the test's own."""
    name = f"luigi_jobs_test_{uuid.uuid4().hex[:12]}"
    with server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        server.select_db(name)
        server.db = name.encode()
        yield cursor
        cursor.execute(f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def s3() -> Any:
    return boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT_URL"])


@pytest.fixture(scope="session")
def bucket(s3: Any) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        for start in range(0, len(page.get("Contents", ())), 1000):
            keys = [{"Key": entry["Key"]} for entry in page["Contents"][start : start + 1000]]
            s3.delete_objects(Bucket=name, Delete={"Objects": keys})
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def project(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    cursor: Any,
    s3: Any,
    bucket: str,
    mysql_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    """A project without tables; the process's own Luigi settings are put back after the test."""
    for name, value in mysql_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(LuigiConfigParser, "_instance", LuigiConfigParser._instance)
    prefix = re.sub(r"\W+", "-", request.node.name)[:60] + uuid.uuid4().hex[:6]
    project = Project(tmp_path, cursor, s3, bucket, prefix, dict(os.environ))
    project.configure("lake")
    yield project
    luigi.task_register.Register.clear_instance_cache()


@pytest.fixture
def reports(project: Project) -> Project:
    """A project with five days of reports."""
    project.add_reports(last_days(5))
    return project


@pytest.fixture
def audited(project: Project) -> Project:
    """Five days of reports in the lake."""
    project.add_reports(last_days(5), rows=3)
    project.cursor.execute("ALTER TABLE reports ADD changed DATETIME NOT NULL DEFAULT '2026-01-01'")
    project.run_steps(*last_days(5))
    return project


@pytest.fixture(scope="session", autouse=True)
def hearing_hangups() -> Iterator[None]:
    """Have the commands that tests start be told of SIGHUP, which under nohup they would be deaf to."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def luigid() -> str:
    if not (url := os.environ.get("LUIGID_URL")):
        pytest.exit("LUIGID_URL not set: run ./scripts/test, which starts the servers", returncode=4)
    return url


@pytest.fixture(params=["local", "luigid"])
def scheduler(request: pytest.FixtureRequest) -> str:
    """The URL of luigid, or nothing for a local scheduler."""
    return str(request.getfixturevalue("luigid")) if request.param == "luigid" else ""

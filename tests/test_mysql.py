"""What is said of a MySQL that cannot be reached, and what is never said."""

from dataclasses import replace
from urllib.parse import quote, quote_plus

import pymysql
import pytest
from project import Project

from luigi_jobs.errors import UnreachableError
from luigi_jobs.mysql import connect, first_line


@pytest.mark.parametrize("host", ["db..example.invalid", f"{'x' * 70}.invalid", ".invalid", "no-such-host.invalid"])
def test_a_name_that_is_no_hosts_cannot_be_reached(project: Project, host: str) -> None:
    project.configure("mysql", host=host, connect_timeout_s="2")
    project.add_reports([])

    with (
        pytest.raises(UnreachableError, match=rf"^cannot reach MySQL \S+@{host}:\d+: .*; check \[mysql\] host"),
        connect(project.load().mysql),
    ):
        pass


@pytest.mark.parametrize("password", ["secret", "cañary%/@ +'\"p:ß", "p+q r"])
def test_a_message_has_the_password_struck_out_however_it_is_written(project: Project, password: str) -> None:
    project.add_reports([])
    mysql = replace(project.load().mysql, password=password)
    shapes = [password, quote(password, safe=""), quote_plus(password)]

    for shape in shapes:
        text = f"no route to mysql://luigi:{shape}@db/jobs\nand more"
        assert first_line(RuntimeError(text), mysql) == "no route to mysql://luigi:***@db/jobs"
        assert first_line(pymysql.OperationalError(2003, text), mysql) == "no route to mysql://luigi:***@db/jobs"


def test_a_message_is_kept_where_there_is_no_password(project: Project) -> None:
    project.add_reports([])
    mysql = replace(project.load().mysql, password="")

    assert first_line(pymysql.OperationalError(2003, "no route"), mysql) == "no route"
    assert first_line(TimeoutError(), mysql) == "TimeoutError"

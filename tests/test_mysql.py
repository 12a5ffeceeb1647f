"""What is said of a MySQL that cannot be reached, and what is never said."""

import pytest
from project import Project

from luigi_jobs.errors import UnreachableError
from luigi_jobs.mysql import connect


@pytest.mark.parametrize("host", ["db..example.invalid", f"{'x' * 70}.invalid", ".invalid", "no-such-host.invalid"])
def test_a_name_that_is_no_hosts_cannot_be_reached(project: Project, host: str) -> None:
    project.configure("mysql", host=host, connect_timeout_s="2")
    project.add_reports([])

    with (
        pytest.raises(UnreachableError, match=rf"^cannot reach MySQL \S+@{host}:\d+: .*; check \[mysql\] host"),
        connect(project.load().mysql),
    ):
        pass

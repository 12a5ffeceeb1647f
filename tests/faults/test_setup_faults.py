"""Careless settings, luigid that goes away, a lake of an older release, an S3 without checksums: F19, F33, F34, F38."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from auditing import audit
from processes import wait_until
from project import days_ago, last_days
from s3_proxy import S3Fault
from tcp_proxy import Fault
from trial import Trial

slow = pytest.mark.slow_fault


@pytest.mark.fault("F33", "a dozen mistakes in one luigi.cfg")
def test_all_mistakes_are_said_at_once_before_any_connection(small: Trial) -> None:
    before = {name: dict(keys) for name, keys in small.project.sections.items()}
    small.project.configure("mysql", port="x", pasword="x", password="${NOT_SET_ANYWHERE}", driver="odbc")
    small.project.configure("lake", staging_dir="/", timezone="Mars/Olympus", settle_hours="-1")
    small.project.configure("table.reports", since="1.1.2021", decode="encoded -> x: rot13", transform="os.system")
    small.project.configure("table.reports/2021", date_column="d", since="2021-01-01")
    small.project.configure("table.orders", date_column="d", since=str(days_ago(-30)))

    run = small.run(cause=r"(?!)", exempt={"I6": "the settings say not even which tables there are"})

    assert run.code == 35
    lines = [line for line in run.output.splitlines() if line.startswith("ERROR") and "luigi.cfg: " in line]
    assert len(lines) >= 1
    for text in (
        "[mysql] pasword: unknown key; known are host, port",
        "[mysql] port = 'x': must be a whole number from 1 to 65535",
        "[mysql] password: environment variable NOT_SET_ANYWHERE is not set",
        "[mysql] driver = 'odbc': must be one of connectorx, pymysql",
        "[lake] staging_dir = '/': must not be the root of the file system",
        "[lake] timezone = 'Mars/Olympus': must be a time zone",
        "[lake] settle_hours = '-1': must be a number of hours",
        "[table.reports] since = '1.1.2021': must be a date",
        "[table.reports] decode = 'encoded -> x: rot13': no decoder 'rot13'",
        "[table.reports] transform = 'os.system': must be package.module:function",
        "[table.reports/2021]: the name holds a slash",
        f"[table.orders] since = '{days_ago(-30)}': lies in the future; this machine's clock says {days_ago(0)}",
    ):
        assert text in lines[0]
    assert (small.mysql.connections, small.s3.requests) == ([], [])

    def mend() -> None:
        small.project.sections = before
        small.project.configure("lake")

    small.heal(mend)


@slow
@pytest.mark.fault("F33", "transform = os:system, a function that takes no frame; another that is not there")
@pytest.mark.parametrize("transform", ["os:system", "os:no_such", "no_such:f"])
def test_a_transform_that_is_none_is_said_before_any_day(small: Trial, transform: str) -> None:
    small.project.configure("table.reports", transform=transform)

    run = small.run(cause=rf"Error: reports: .*{transform}")

    assert run.code == 35
    assert small.mysql.answers() == []
    small.heal(lambda: small.project.configure("table.reports", transform=None))


@dataclass
class Luigid:
    """A central scheduler of the test's own."""

    folder: Path
    environment: dict[str, str]
    port: int = 0
    process: Any = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        program = Path(sys.executable).with_name("luigid")
        words = ["--address", "127.0.0.1", "--port", str(self.port), "--logdir", self.folder]
        self.process = subprocess.Popen(
            [program, *words, "--state-path", self.folder / "state"],
            cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(self.answers, seconds=20)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def own_luigid(tmp_path: Path) -> Iterator[Luigid]:
    (tmp_path / "luigid").mkdir()
    scheduler = Luigid(tmp_path / "luigid", dict(os.environ))
    scheduler.start()
    yield scheduler
    scheduler.stop()


@slow
@pytest.mark.fault("F34", "luigid is killed and started again while a day is read")
def test_a_scheduler_that_is_started_again_is_no_loss(small: Trial, own_luigid: Luigid) -> None:
    def restart() -> None:
        own_luigid.stop()
        own_luigid.start()

    small.mysql.fault = Fault(restart, 0, times=1)

    run = small.run(scheduler=own_luigid.url, exempt={"I6": "no day has failed: luigid has forgotten what is to do"})

    assert small.mysql.hits == 1
    assert run.code in (0, 25)
    small.heal()


@slow
@pytest.mark.fault("F34", "luigid is killed while a day is read, and stays away")
def test_a_scheduler_that_stays_away_ends_the_run_by_its_code(small: Trial, own_luigid: Luigid) -> None:
    small.project.configure("core", rpc_retry_wait="0")
    small.mysql.fault = Fault(own_luigid.stop, 0, times=1)

    run = small.run(
        scheduler=own_luigid.url, cause="(?s:.*)", exempt={"I6": "an error of luigid names no table"}, within_s=60
    )

    assert run.code == 40
    assert f"'{own_luigid.url}'; start luigid there, or add --local-scheduler" in run.output
    small.heal()


OLD_KEYS: list[dict[str, str]] = [
    {},
    {"luigi_jobs.zero_dates": '{"seen": 2}'},
    {"luigi_jobs.zero_dates": '{"seen": 2}', "luigi_jobs.undecodable": '{"decoded": 1}'},
]


@slow
@pytest.mark.fault(
    "F38", "files of older releases: without any of our keys, or with those of zero_dates and undecodable"
)
@pytest.mark.parametrize("keys", OLD_KEYS, ids=["no key", "zero_dates", "zero_dates and undecodable"])
def test_a_lake_of_an_older_release_is_complete_and_green(trial: Trial, keys: dict[str, str]) -> None:
    trial.days = last_days(3)
    trial.project.add_reports(trial.days)
    trial.heal()
    for day in trial.days:
        path = trial.project.folder / "old"
        pq.write_table(trial.project.read(day).replace_schema_metadata(keys or None), path)
        trial.project.s3.upload_file(str(path), trial.project.bucket, trial.project.key(day))
    before = (len(trial.mysql.answers()), trial.s3.count()["PutObject"])

    run = trial.run()

    assert run.code == 0
    assert (len(trial.mysql.answers()), trial.s3.count()["PutObject"]) == before
    for arguments in ([], ["--deep"]):
        audited = audit(trial.project, *arguments)
        assert audited.returncode == 0, audited.stdout
        assert f"reports: 3 of 3 closed days from {trial.days[0]}" in audited.stdout
    trial.project.configure("table.reports", refresh_days="3", fingerprint="count")
    assert trial.run().code == 0
    assert (len(trial.mysql.answers()), trial.s3.count()["PutObject"]) == before
    trial.project.remove_days(trial.days[1:2])
    assert trial.run().code == 0
    assert trial.s3.count()["PutObject"] == before[1] + 1
    trial.heal()


@slow
@pytest.mark.fault("F38", "a file of an older release is replaced when its day is loaded again")
def test_a_file_of_an_older_release_is_replaced(small: Trial) -> None:
    small.heal()
    path = small.project.folder / "old"
    pq.write_table(small.project.read(small.days[0]).slice(0, 3).replace_schema_metadata(None), path)
    small.project.s3.upload_file(str(path), small.project.bucket, small.project.key(small.days[0]))
    small.project.configure("table.reports", refresh_days="3")

    run = small.run()

    assert run.code == 0
    assert small.project.read(small.days[0]).num_rows == 20
    small.heal()


@slow
@pytest.mark.fault("F19", "S3 tells no checksum: every object is read back")
def test_an_s3_without_checksums_is_read_back(small: Trial) -> None:
    small.s3.tells_checksums = False

    run = small.run()

    assert run.code == 0
    assert small.s3.count()["GetObject"] == 2
    assert small.s3.statuses("PutObject") == [200, 200]
    small.heal()


@slow
@pytest.mark.fault("F19", "S3 tells no checksum, and stores another byte than it was sent")
@pytest.mark.parametrize("times", [1, 1000])
def test_an_s3_without_checksums_cannot_keep_another_byte(small: Trial, times: int) -> None:
    small.s3.tells_checksums = False
    small.s3.faults = [S3Fault("PutObject", "flip", times=times)]

    run = small.run(
        cause=r"LakeError: reports \S+: \S+ has other bytes than were sent, 3 times; the next run sends it again",
        exempt={"I1": "the broken server itself shows other bytes until they are taken away"},
    )

    assert run.code == (0 if times == 1 else 30)
    assert small.missing == ([] if times == 1 else small.days)
    assert small.s3.count()["PutObject"] == (3 if times == 1 else 6)
    small.heal()

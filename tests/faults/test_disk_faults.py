"""A staging folder that is full, damaged or not ours, and an S3 that stores less than it was sent: F17, F20, F21."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_proxy import S3Fault
from tcp_proxy import Fault
from trial import Trial

from luigi_jobs.days import ONE_DAY
from luigi_jobs.stored_days import PUBLISH_ATTEMPTS

MB = 1024 * 1024
slow = pytest.mark.slow_fault


@pytest.fixture
def small_disk(large: Trial) -> Iterator[Trial]:
    """A trial of one day of 6 MB whose staging folder is a disk of its own, made by `mount_staging`."""
    yield large
    unmount_staging(large)


def mount_staging(trial: Trial, megabytes: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    trial.project.staging.mkdir(mode=0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(trial.project.staging)], check=True
    )


def unmount_staging(trial: Trial) -> None:
    if trial.project.staging.is_mount():
        subprocess.run(["umount", str(trial.project.staging)], check=True)


@pytest.mark.fault("F20", "the staging disk has less room than the day needs")
def test_a_disk_without_room_is_found_before_the_rows_are_asked_for(small_disk: Trial) -> None:
    mount_staging(small_disk, 4)

    run = small_disk.run(
        cause=r"StagingError: reports \S+: \S+/staging has [\d,]+ bytes free and the day needs about [\d,]+: make room"
    )

    assert run.code == 30
    assert small_disk.missing == small_disk.days
    assert small_disk.mysql.answers() == []
    small_disk.heal(lambda: unmount_staging(small_disk))


@slow
@pytest.mark.fault("F20", "the staging disk becomes full while the rows are written, or while they are decoded")
@pytest.mark.parametrize("driver", ["connectorx", "pymysql"])
@pytest.mark.parametrize("free_mb", [2, 8])
def test_a_disk_that_becomes_full_ends_the_day_and_leaves_nothing(small_disk: Trial, driver: str, free_mb: int) -> None:
    small_disk.project.configure("mysql", driver=driver)
    mount_staging(small_disk, 32)
    filler = small_disk.project.staging / "filler"
    small_disk.mysql.fault = Fault(lambda: filler.write_bytes(bytes((32 - free_mb) * MB)), 1000, times=1)

    run = small_disk.run(cause=r"StagingError: reports \S+: cannot write \S+: .*No space left on device; [\d,]+ bytes")

    assert run.code == 30
    assert small_disk.missing == small_disk.days
    small_disk.heal(filler.unlink)


@slow
@pytest.mark.fault("F20", "the staging disk is full for one day, and has room for another")
def test_a_disk_without_room_for_one_day_loads_the_other(small_disk: Trial) -> None:
    day = small_disk.days[0]
    small_disk.days = [day - ONE_DAY, day]
    small_disk.project.configure("table.reports", since=str(small_disk.days[0]))
    small_disk.project.cursor.execute(
        "INSERT INTO reports (date_start, account, encoded) VALUES (%s, 1, 'QQ==')", (small_disk.days[0],)
    )
    mount_staging(small_disk, 4)

    run = small_disk.run(cause=r"StagingError: reports \S+: \S+/staging has [\d,]+ bytes free")

    assert run.code == 30
    assert small_disk.missing == [day]
    small_disk.heal(lambda: unmount_staging(small_disk))


def make_link(staging: Path) -> None:
    staging.with_name("elsewhere").mkdir(mode=0o700)
    staging.symlink_to(staging.with_name("elsewhere"))


def make_foreign(staging: Path) -> None:
    staging.mkdir(mode=0o700)
    os.chown(staging, 65534, 65534)


def make_open(staging: Path) -> None:
    staging.mkdir()
    staging.chmod(0o777)


def make_file(staging: Path) -> None:
    staging.write_text("")


def remove(staging: Path) -> None:
    if staging.is_symlink() or staging.is_file():
        staging.unlink()
    else:
        shutil.rmtree(staging)


REFUSED = r"ConfigError: reports: \[lake\] staging_dir = \S+: must be a folder of this user's own, no link"


@slow
@pytest.mark.fault("F21", "staging_dir is a link, another user's, open to all, or a file")
@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (make_link, REFUSED),
        (make_foreign, REFUSED),
        (make_open, REFUSED),
        (make_file, r"StagingError: reports: cannot make \S+/staging: .*; check \[lake\] staging_dir"),
    ],
)
def test_a_folder_that_is_not_ours_alone_is_refused(small: Trial, make: object, cause: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder away")
    make(small.project.staging)  # type: ignore[operator]

    run = small.run(cause=cause)

    assert run.code == 35
    assert small.mysql.answers() == []
    small.heal(lambda: remove(small.project.staging))


@slow
@pytest.mark.fault("F21", "staging_dir is read-only")
def test_a_read_only_folder_is_an_error_of_every_day(small_disk: Trial) -> None:
    mount_staging(small_disk, 32)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.project.staging)], check=True)

    run = small_disk.run(cause=r"StagingError: reports \S+: cannot make \S+: Read-only file system; check \[lake\]")

    assert run.code == 30
    small_disk.heal(lambda: unmount_staging(small_disk))


@slow
@pytest.mark.fault("F21", "staging_dir is missing, with the folders above it")
def test_a_missing_folder_is_made_for_its_owner_alone(small: Trial) -> None:
    staging = small.project.staging / "two" / "below"
    small.project.configure("lake", staging_dir=str(staging))

    run = small.run()

    assert run.code == 0
    assert [path.stat().st_mode & 0o777 for path in (small.project.staging, staging)] == [0o700, 0o700]
    small.heal()


@slow
@pytest.mark.fault("F17", "S3 answers 200 to a PUT and stores one byte less, once or every time")
@pytest.mark.parametrize(("times", "code"), [(1, 0), (PUBLISH_ATTEMPTS, 30)])
def test_an_upload_that_s3_has_cut_is_no_day(small: Trial, times: int, code: int) -> None:
    small.s3.faults = [S3Fault("PutObject", "truncate", times=times)]

    run = small.run(
        cause=r"LakeError: reports \S+: \S+ has other bytes than were sent, 3 times; the next run sends it again",
        exempt={"I1": "the broken server itself shows a part until it is taken away"},
    )

    assert run.code == code
    assert "the lake has other bytes at" in run.output
    small.heal()


@slow
@pytest.mark.fault("F17", "a byte of a staged file is flipped between two steps")
@pytest.mark.parametrize(("point", "name"), [("decode", "extract.arrow"), ("PutObject", "decoded.parquet")])
def test_a_flipped_byte_in_staging_is_never_a_day(large: Trial, point: str, name: str) -> None:
    environment = dict(large.project.environment)
    large.project.environment |= {"CRASH_AT": point, "CRASH_RUN": "1"}
    large.project.luigi("Backfill", "--table", "reports", module="crashing")
    large.project.environment = environment
    (path,) = large.project.staging.rglob(name)
    staged = bytearray(path.read_bytes())
    staged[len(staged) // 2] ^= 1
    path.write_bytes(staged)

    run = large.run(
        cause=rf"StagingError: reports \S+: \S+/{name} has changed since it was written, and is removed; the "
    )

    assert run.code == 30
    assert large.missing == large.days
    assert large.project.staged() == []
    large.heal()

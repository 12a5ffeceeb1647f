import os
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from luigi_jobs.errors import ConfigError, StagingError
from luigi_jobs.files import ExtractWriter, Head, count_parquet, read_extract, write_parquet
from luigi_jobs.row_groups import row_groups
from luigi_jobs.staging import DayFolder, Stamp, check_room, open_day, sweep

DAY = date(2021, 1, 31)
STAMP = Stamp(
    settings="settings",
    query="query",
    run="run",
    boot="boot",
    rows=3,
    crc32={"extract.arrow": 7},
    zero_dates={"seen": 1},
    fingerprint='{"rows": 3}',
    as_of="2026-11-22T10:00:00.000000Z",
    extracted_at=1.6e9,
    seconds=1.5,
)
BATCH = pa.record_batch({"id": [1, 2, 3]})
FACTS = Head(pa.schema([("id", pa.int32())]), ("id",))


def write_extract(path: Path, batches: Iterable[pa.RecordBatch], facts: Head = FACTS) -> int:
    with ExtractWriter(path, facts, lambda rows: None) as writer:
        for batch in batches:
            writer.write(batch)
    return writer.rows


@pytest.fixture
def folder(tmp_path: Path) -> DayFolder:
    return open_day(str(tmp_path / "staging"), "reports", "date", DAY)


def test_folder_is_named_by_table_and_day_and_private(folder: DayFolder, tmp_path: Path) -> None:
    with folder.locked():
        assert folder.path == tmp_path / "staging/reports/date=20210131"
        modes = {path.stat().st_mode & 0o777 for path in (folder.path, folder.path.parent, tmp_path / "staging")}
        assert modes == {0o700}


def test_folder_that_stays_empty_is_removed(folder: DayFolder) -> None:
    with folder.locked():
        pass

    assert not folder.path.exists()


def test_file_takes_its_name_only_when_it_is_whole(folder: DayFolder) -> None:
    with folder.locked():
        with pytest.raises(KeyboardInterrupt), folder.writing(folder.extract) as partial:
            partial.write_bytes(b"half")
            raise KeyboardInterrupt
        assert list(folder.path.iterdir()) == []
        with folder.writing(folder.extract) as partial:
            partial.write_bytes(b"whole")
            assert not folder.extract.exists()
        assert folder.extract.read_bytes() == b"whole"


def test_disk_that_refuses_is_an_error_that_names_path_and_room(folder: DayFolder) -> None:
    with (
        folder.locked(),
        pytest.raises(
            StagingError, match=r"cannot write .*extract.arrow: No space left on device; [\d,]+ bytes are free"
        ),
        folder.writing(folder.extract) as partial,
    ):
        partial.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    assert not folder.path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of 1 MiB")
def test_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        folder = open_day(str(disk / "staging"), "reports", "date", DAY)
        schema = pa.schema([("body", pa.binary())])
        batches = [pa.record_batch([pa.array([os.urandom(1 << 18)])], schema=schema) for _ in range(8)]
        with folder.locked():
            with pytest.raises(StagingError, match="cannot write"), folder.writing(folder.extract) as partial:
                write_extract(partial, batches, Head(schema, ()))
            with pytest.raises(StagingError), folder.writing(folder.decoded) as partial:
                write_parquet(partial, schema, batches, lambda _: {})
            assert list(folder.path.iterdir()) == []
        with pytest.raises(StagingError, match=r"has [\d,]+ bytes free and the day needs about 2,000,000"):
            check_room(str(disk), 2_000_000)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_stamp_comes_back_as_it_was_written(folder: DayFolder) -> None:
    with folder.locked():
        assert folder.read_stamp() is None
        folder.write_stamp(STAMP)
        assert folder.read_stamp() == STAMP
        (folder.path / "made_by.json").write_text("{")
        assert folder.read_stamp() is None


def test_extract_keeps_wire_types_rows_and_facts(folder: DayFolder) -> None:
    seen: list[int] = []
    with (
        folder.locked(),
        folder.writing(folder.extract) as partial,
        ExtractWriter(partial, FACTS, seen.append) as writer,
    ):
        writer.write(BATCH)
        writer.write(BATCH.slice(0, 1))

    with read_extract(folder.extract) as (facts, batches):
        rows = pa.Table.from_batches(batches)

    assert seen == [3, 4]
    assert writer.rows == 4
    assert facts == FACTS
    assert rows.schema.field("id").type == pa.int64()
    assert rows["id"].to_pylist() == [1, 2, 3, 1]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_extract_takes_back_what_followed_the_mark(tmp_path: Path, kept: int) -> None:
    other = pa.record_batch({"id": pa.array([7], pa.int64())})
    with ExtractWriter(tmp_path / "extract", FACTS, lambda rows: None) as writer:
        for _ in range(kept):
            writer.write(BATCH)
        writer.mark()
        for _ in range(2):
            writer.write(BATCH)
            writer.roll_back()
        writer.write(other)

    with read_extract(tmp_path / "extract") as (_, batches):
        assert pa.Table.from_batches(batches)["id"].to_pylist() == [1, 2, 3] * kept + [7]
    assert writer.rows == 3 * kept + 1


def test_extract_casts_batches_to_the_types_of_the_first(tmp_path: Path) -> None:
    moment = pa.array([0], pa.timestamp("us"))
    write_extract(
        tmp_path / "extract",
        [pa.record_batch({"t": moment}), pa.record_batch({"t": moment.cast(pa.timestamp("us", "UTC"))})],
    )

    with read_extract(tmp_path / "extract") as (_, batches):
        assert [batch.schema.field("t").type for batch in batches] == [pa.timestamp("us")] * 2


@pytest.mark.parametrize("cut", [4, 20, 200])
def test_extract_that_is_cut_off_is_refused(folder: DayFolder, cut: int) -> None:
    with folder.locked(), folder.writing(folder.extract) as partial:
        write_extract(partial, [BATCH])
    folder.extract.write_bytes(folder.extract.read_bytes()[:-cut])

    with pytest.raises(StagingError, match="is not whole"), read_extract(folder.extract) as (_, batches):
        list(batches)


@pytest.mark.parametrize("counts", [[], [0], [3], [3, 0, 2]])
def test_parquet_has_every_row_and_the_schema(tmp_path: Path, counts: list[int]) -> None:
    path = tmp_path / "day.parquet"

    batches = [BATCH.slice(0, count) for count in counts]

    write_parquet(path, BATCH.schema, batches, lambda rows: {"luigi_jobs.rows": str(rows)})

    assert count_parquet(path) == sum(counts)
    assert pa.parquet.read_schema(path).equals(BATCH.schema)
    assert pa.parquet.read_metadata(path).metadata[b"luigi_jobs.rows"] == str(sum(counts)).encode()


def test_parquet_of_the_same_rows_is_the_same_bytes_however_they_were_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luigi_jobs.files.ROW_GROUP_BYTES", 10_000)
    texts = [None if number % 7 == 0 else "x" * (number % 50) for number in range(5000)]
    rows = pa.record_batch({"id": pa.array(range(5000)), "body": pa.array(texts), "flag": [True, None] * 2500})
    for size in (5000, 1024, 37):
        batches = [rows.slice(start, size) for start in range(0, 5000, size)]
        write_parquet(tmp_path / str(size), rows.schema, batches, lambda _: {})

    assert pa.parquet.read_table(tmp_path / "37").to_batches()[0].schema == rows.schema
    assert pa.parquet.ParquetFile(tmp_path / "37").read() == pa.Table.from_batches([rows])
    assert pa.parquet.read_metadata(tmp_path / "37").num_row_groups > 10
    assert (tmp_path / "37").read_bytes() == (tmp_path / "1024").read_bytes() == (tmp_path / "5000").read_bytes()


def test_parquet_row_groups_are_cut_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luigi_jobs.files.ROW_GROUP_BYTES", 6 * 8)

    write_parquet(tmp_path / "day.parquet", BATCH.schema, [BATCH] * 5, lambda _: {})

    groups = pa.parquet.read_metadata(tmp_path / "day.parquet")
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [6, 6, 3]


def test_row_group_of_large_rows_is_one_row(tmp_path: Path) -> None:
    rows = pa.record_batch({"body": [b"x", b"y" * 20_000_000, b"z" * 20_000_000, b"x"]})

    assert [group.num_rows for group in row_groups(rows.schema, [rows], 16_000_000)] == [2, 1, 1]


def test_parquet_without_a_footer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "day.parquet").write_bytes(b"PAR1 and no end")

    with pytest.raises(StagingError, match="is not whole"):
        count_parquet(tmp_path / "day.parquet")


def test_second_process_waits_for_the_folder_and_then_has_it(folder: DayFolder) -> None:
    code = (
        "import sys; from pathlib import Path; from luigi_jobs.staging import DayFolder\n"
        "with DayFolder(Path(sys.argv[1])).locked(lambda: print('waiting', flush=True)): print('has it', flush=True)"
    )
    with folder.locked():
        command = [sys.executable, "-W", "ignore", "-c", code, str(folder.path)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"
        time.sleep(0.5)
        assert other.poll() is None
    assert other.communicate(timeout=30)[0] == "has it\n"
    assert not folder.path.exists()


def test_sweep_removes_partials_and_published_days_and_leaves_the_rest(tmp_path: Path) -> None:
    folders = [open_day(str(tmp_path), "reports", "date", date(2021, 1, day)) for day in (1, 2, 3, 4)]
    for folder in folders:
        folder.path.mkdir(parents=True)
        folder.extract.write_bytes(b"whole")
        (folder.path / "decoded.parquet.partial").write_bytes(b"half")
    (folders[3].path / "extract.arrow").unlink()
    (tmp_path / "reports" / "notes.txt").write_text("somebody's")

    with folders[2].locked():
        sweep(str(tmp_path), "reports", "date", [date(2021, 1, 1), date(2021, 1, 3)])
        left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())

    assert left == [
        "reports/date=20210102/extract.arrow",
        "reports/date=20210103/decoded.parquet.partial",
        "reports/date=20210103/extract.arrow",
        "reports/notes.txt",
    ]


def test_staging_dir_that_is_not_ours_alone_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    (tmp_path / "file").write_text("")

    for root in (shared, link):
        with (
            pytest.raises(ConfigError, match="must be a folder of this user's own"),
            open_day(str(root), "reports", "date", DAY).locked(),
        ):
            pass
    with pytest.raises(StagingError, match="cannot make"), open_day(str(tmp_path / "file"), "r", "date", DAY).locked():
        pass

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from project import Project, count_requests

from luigi_jobs.days import each_day
from luigi_jobs.errors import ChangedError, ConfigError, LakeError
from luigi_jobs.facts import DayFacts
from luigi_jobs.lake import LocalLake, S3Lake, open_lake
from luigi_jobs.s3_lake import PART_BYTES
from luigi_jobs.staging import read_crc32
from luigi_jobs.stored_days import Lake

DAY = date(2021, 1, 31)
FACTS = DayFacts(rows=3, source_rows=3, extracted_at="2026-11-22T10:00:00.000000Z")


@pytest.fixture(params=["s3", "folder"])
def lake(request: pytest.FixtureRequest, project: Project) -> Lake:
    if request.param == "folder":
        project.configure("lake", url=str(project.folder / "lake"))
    project.add_reports([])
    return open_lake(project.load().lake)


@pytest.fixture
def s3_lake(project: Project) -> S3Lake:
    project.add_reports([])
    lake = open_lake(project.load().lake)
    assert isinstance(lake, S3Lake)
    return lake


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "day.parquet"
    path.write_bytes(b"a day")
    return path


def test_publish_puts_the_day_at_its_one_key(lake: Lake, parquet: Path) -> None:
    assert lake.has_day("reports", DAY) is False

    assert lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))

    stored = lake.find_day("reports", DAY)
    assert stored
    assert stored.size == len(b"a day")
    assert lake.list_days("reports", DAY, DAY) == {DAY: replace(stored, facts=None, crc32=None)}
    assert lake.has_day("reports", DAY) is True
    assert lake.target("reports", DAY).exists()
    with lake.target("reports", DAY).open("r") as file:
        assert file.read() == b"a day"


def test_publish_again_replaces_the_day(lake: Lake, parquet: Path) -> None:
    lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))
    parquet.write_bytes(b"another day")

    lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))

    with lake.target("reports", DAY).open("r") as file:
        assert file.read() == b"another day"
    assert list(lake.list_days("reports", date(2000, 1, 1), date(2030, 1, 1))) == [DAY]


def test_list_days_shows_the_asked_range_only(lake: Lake, parquet: Path) -> None:
    for day in (date(2020, 12, 31), date(2021, 1, 1), date(2021, 1, 15), DAY, date(2021, 2, 1)):
        lake.publish(parquet, "reports", day, FACTS, read_crc32(parquet))
    lake.publish(parquet, "reports2", date(2021, 1, 3), FACTS, read_crc32(parquet))

    assert sorted(lake.list_days("reports", date(2021, 1, 1), DAY)) == [date(2021, 1, 1), date(2021, 1, 15), DAY]


def test_has_day_believes_a_listing_until_the_day_is_published(lake: Lake, parquet: Path) -> None:
    lake.list_days("reports", DAY, DAY)
    assert lake.has_day("reports", DAY) is False

    lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))

    assert lake.has_day("reports", DAY) is True


def test_list_days_ignores_keys_that_are_no_days(s3_lake: S3Lake, project: Project) -> None:
    project.put_days([DAY])
    for name in ("_SUCCESS", "date=20210130/part-0.parquet", "date=20210129/", "date=2021/reports.parquet"):
        project.s3.put_object(Bucket=project.bucket, Key=f"{project.prefix}/reports/{name}", Body=b"x")

    assert s3_lake.list_days("reports", date(2021, 1, 1), date(2021, 12, 31)).keys() == {DAY}
    assert s3_lake.has_day("reports", date(2021, 1, 30)) is False
    assert s3_lake.has_day("reports", date(2021, 1, 29)) is False


def test_list_days_of_a_short_range_skips_the_history(s3_lake: S3Lake, project: Project) -> None:
    days = list(each_day(date(2021, 1, 1), date(2021, 2, 1)))
    project.put_days(days)
    requests = count_requests(s3_lake._s3, "ListObjectsV2")
    sent = next(requests)

    assert list(s3_lake.list_days("reports", days[-2], days[-1])) == days[-2:]

    assert len(sent) == 1
    assert "start-after=" in sent[0]


def test_has_day_takes_one_head(s3_lake: S3Lake, project: Project) -> None:
    project.put_days([DAY])
    heads, lists = (count_requests(s3_lake._s3, name) for name in ("HeadObject", "ListObjectsV2"))
    sent, listed = next(heads), next(lists)

    assert s3_lake.has_day("reports", DAY)
    assert (len(sent), len(listed)) == (1, 0)


def test_publish_of_a_large_file_aborts_what_a_killed_upload_left(s3_lake: S3Lake, project: Project) -> None:
    key = project.key(DAY)
    project.s3.create_multipart_upload(Bucket=project.bucket, Key=key)
    project.s3.create_multipart_upload(Bucket=project.bucket, Key=key + "x")
    large = project.folder / "large"
    large.write_bytes(os.urandom(PART_BYTES + 1))

    s3_lake.publish(large, "reports", DAY, FACTS, read_crc32(large))

    uploads = project.s3.list_multipart_uploads(Bucket=project.bucket, Prefix=f"{project.prefix}/")["Uploads"]
    assert [upload["Key"] for upload in uploads] == [key + "x"]
    assert project.s3.get_object(Bucket=project.bucket, Key=key)["Body"].read() == large.read_bytes()
    project.s3.abort_multipart_upload(Bucket=project.bucket, Key=key + "x", UploadId=uploads[0]["UploadId"])


@pytest.mark.parametrize("theirs", ["2026-11-22T09:00:00.000000Z", "2026-11-22T11:00:00.000000Z"])
def test_an_upload_that_another_host_ends_is_made_again(s3_lake: S3Lake, project: Project, theirs: str) -> None:
    other = S3Lake(s3_lake.settings)
    paths = [project.folder / name for name in ("ours", "theirs")]
    for path in paths:
        path.write_bytes(os.urandom(2 * PART_BYTES))
    met: list[bool] = []

    def meet(**_: object) -> None:  # before a part is sent, the other host begins and ends the same day
        if not met:
            met.append(True)
            met.append(
                other.publish(paths[1], "reports", DAY, replace(FACTS, extracted_at=theirs), read_crc32(paths[1]))
            )

    s3_lake._s3.meta.events.register("before-send.s3.UploadPart", meet)

    is_ours = s3_lake.publish(paths[0], "reports", DAY, FACTS, read_crc32(paths[0]))

    assert met == [True, True]
    assert is_ours == (theirs < FACTS.extracted_at)
    stored = project.s3.get_object(Bucket=project.bucket, Key=project.key(DAY))["Body"].read()
    assert stored == paths[0 if is_ours else 1].read_bytes()
    assert "Uploads" not in project.s3.list_multipart_uploads(Bucket=project.bucket, Prefix=f"{project.prefix}/")


@pytest.mark.parametrize("ask", ["list", "look", "write"])
@pytest.mark.parametrize(
    ("section", "keys", "message"),
    [
        ("lake", {"url": "s3://no-such-bucket/lake"}, r"404 NoSuchBucket; bucket no-such-bucket does not exist"),
        (
            "s3",
            {"aws_access_key_id": "nobody", "aws_secret_access_key": "s3cret"},
            r"403 \w+; (S3 does not know the access key|the credentials may not)",
        ),
        ("s3", {"endpoint_url": "http://127.0.0.1:9"}, r"Could not connect to the endpoint URL.*check \[s3\]"),
    ],
)
def test_s3_that_refuses_is_an_error_and_no_absence(
    project: Project, parquet: Path, section: str, keys: dict[str, str], message: str, ask: str
) -> None:
    project.configure(section, **keys)
    project.add_reports([])
    lake = open_lake(project.load().lake)

    with pytest.raises(LakeError, match=message) as caught:
        if ask == "list":
            lake.list_days("reports", DAY, DAY)
        elif ask == "look":
            lake.has_day("reports", DAY)
        else:
            lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))

    assert "s3cret" not in str(caught.value)


class _Portal(BaseHTTPRequestHandler):
    """Answers every request with a page."""

    page = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.page)

    do_HEAD = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def portal() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Portal)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("ask", ["list", "list all", "top", "look", "write"])
@pytest.mark.parametrize(
    "page",
    [b"", b"<html><body>Log in, please</body></html>", b"<!doctype html><p>Log in<br>please", b"<a><b>other</b></a>"],
    ids=["empty", "xhtml", "html", "xml"],
)
def test_a_server_that_is_no_s3_is_an_error_and_no_absence(
    project: Project, parquet: Path, portal: str, page: bytes, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Portal, "page", page)
    project.configure("s3", endpoint_url=portal)
    project.add_reports([])
    lake = open_lake(project.load().lake)
    asks = {
        "list": lambda: lake.list_days("reports", DAY, DAY),
        "list all": lambda: lake.list_everything("reports"),
        "top": lake.list_top,
        "look": lambda: lake.has_day("reports", DAY),
        "write": lambda: lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet)),
    }

    refused = "S3 answered 500 500" if b"<br>" in page else "(?!)"  # what botocore makes of what is no XML
    message = rf"cannot \w+ .*: (what answers at {portal} is no S3: check \[s3\] endpoint_url|{refused})"
    with pytest.raises(LakeError, match=message):
        asks[ask]()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"endpoint_url": "${NOT_SET}"}, r"luigi.cfg: \[s3\].*NOT_SET"),
        ({"endpoint_url": "not a url"}, r"luigi.cfg: \[s3\]: Invalid endpoint"),
        ({"endpont_url": "http://127.0.0.1"}, r"luigi.cfg: \[s3\]"),
    ],
)
def test_s3_section_that_is_wrong_is_named(project: Project, keys: dict[str, str], message: str) -> None:
    project.configure("s3", **keys)
    project.add_reports([])

    with pytest.raises(ConfigError, match=message):
        open_lake(project.load().lake)


def test_folder_that_refuses_is_an_error(project: Project, parquet: Path) -> None:
    (project.folder / "lake").write_text("a file where the lake should be")
    project.configure("lake", url=str(project.folder / "lake"))
    project.add_reports([])
    lake = open_lake(project.load().lake)

    assert isinstance(lake, LocalLake)
    with pytest.raises(LakeError, match="cannot write"):
        lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))


@pytest.mark.parametrize("is_there", [True, False], ids=["was another", "was none"])
def test_a_writer_that_comes_late_replaces_nothing(lake: Lake, parquet: Path, is_there: bool) -> None:
    lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))
    before = lake.find_day("reports", DAY) if is_there else None
    parquet.write_bytes(b"another day")
    lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))
    parquet.write_bytes(b"a late day")

    with pytest.raises(ChangedError, match="it has changed meanwhile; the next run looks again"):
        lake._put(parquet, lake.key("reports", DAY), FACTS, read_crc32(parquet), before)

    with lake.target("reports", DAY).open("r") as file:
        assert file.read() == b"another day"


@pytest.fixture
def folder_lake(project: Project) -> LocalLake:
    project.configure("lake", url=str(project.folder / "lake"))
    project.add_reports([])
    lake = open_lake(project.load().lake)
    assert isinstance(lake, LocalLake)
    return lake


def list_files(lake: LocalLake) -> list[str]:
    return [str(path) for path in Path(lake.settings.prefix).rglob("*") if path.is_file()]


def test_a_folder_takes_no_other_bytes_than_were_staged(folder_lake: LocalLake, parquet: Path) -> None:
    folder_lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))
    staged = read_crc32(parquet)
    parquet.write_bytes(b"A day")

    with pytest.raises(LakeError, match="other bytes arrived than were staged; the next run tries again"):
        folder_lake.publish(parquet, "reports", DAY, FACTS, staged)

    key = folder_lake.key("reports", DAY)
    assert list_files(folder_lake) == [key]
    assert Path(key).read_bytes() == b"a day"


def test_a_folder_that_cannot_be_written_keeps_no_part(folder_lake: LocalLake, parquet: Path) -> None:
    Path(folder_lake.key("reports", DAY)).mkdir(parents=True)

    with pytest.raises(LakeError, match=r"cannot write \S+: Is a directory; check \[lake\] url"):
        folder_lake.publish(parquet, "reports", DAY, FACTS, read_crc32(parquet))

    assert list_files(folder_lake) == []


def test_each_process_has_a_lake_of_its_own(s3_lake: S3Lake) -> None:
    assert open_lake(s3_lake.settings) is s3_lake
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, b"same" if open_lake(s3_lake.settings) is s3_lake else b"other")
        os._exit(0)
    os.waitpid(pid, 0)

    assert os.read(reader, 10) == b"other"
    os.close(reader)
    os.close(writer)

"""A user's project in a folder of its own: luigi.cfg, tables in MySQL, a lake, and the real luigi command."""

import base64
import configparser
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import luigi
import pyarrow.parquet as pq
from luigi.configuration.cfg_parser import LuigiConfigParser

from luigi_jobs import config, lake
from luigi_jobs.day_of_table import open_day
from luigi_jobs.pipeline import decode_day, extract_day, load_day
from luigi_jobs.settings import Settings, TableSettings

ROOT = Path(__file__).parent.parent
COMMAND_TIMEOUT_S = 120
REPORTS = {"date_column": "date_start", "decode": "encoded -> decoded: base64"}


def today() -> date:
    """Today in UTC, the zone of the tests' projects."""
    return datetime.now(UTC).date()


def days_ago(days: int) -> date:
    return today() - timedelta(days=days)


def last_days(count: int) -> list[date]:
    """The `count` days that end with yesterday, oldest first."""
    return [days_ago(days) for days in range(count, 0, -1)]


@dataclass
class Project:
    """`database` is an open PyMySQL cursor; the lake is below s3://bucket/prefix."""

    folder: Path
    cursor: Any
    s3: Any
    bucket: str
    prefix: str
    environment: dict[str, str]
    sections: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shipped = configparser.ConfigParser(interpolation=None)
        shipped.optionxform = str  # type: ignore[assignment,method-assign]
        shipped.read(ROOT / "luigi.cfg")
        self.sections = {name: dict(shipped[name]) for name in shipped.sections() if not name.startswith("table.")}
        self.sections["mysql"] |= {"port": "${MYSQL_PORT}", "database": self.cursor.connection.db.decode()}
        self.sections["lake"] |= {
            "url": f"s3://{self.bucket}/{self.prefix}",
            "staging_dir": str(self.staging),
            "settle_hours": "0",
        }
        self.sections["s3"] = {"endpoint_url": "${S3_ENDPOINT_URL}"}

    @property
    def staging(self) -> Path:
        return self.folder / "staging"

    def configure(self, section: str, **keys: str | None) -> None:
        """Set keys of a section of luigi.cfg, remove those that are None, and write the file."""
        merged = self.sections.get(section, {}) | keys
        self.sections[section] = {key: value for key, value in merged.items() if value is not None}
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_dict(self.sections)
        with open(self.folder / "luigi.cfg", "w") as file:
            parser.write(file)

    def run_steps(self, *days: date, table: str = "reports") -> None:
        """Load days in this process, without Luigi."""
        self.load()
        for day in days:
            for step in (extract_day, decode_day, load_day):
                step(open_day(table, day))

    def load(self) -> Settings:
        """Make this process read the project's luigi.cfg, and return its settings."""
        parser = LuigiConfigParser()
        parser.read(self.folder / "luigi.cfg")
        LuigiConfigParser._instance = parser
        luigi.task_register.Register.clear_instance_cache()
        config.load_settings.cache_clear()
        lake._open_lake.cache_clear()
        return config.load_settings()

    def add_reports(self, days: Iterable[date], rows: int = 20, name: str = "reports", **keys: str) -> None:
        """Make and fill the example table, and configure it; `rows` rows a day."""
        self.cursor.execute(
            f"CREATE TABLE `{name}` (id BIGINT PRIMARY KEY AUTO_INCREMENT, date_start DATE NOT NULL, account INT, "
            "spend DECIMAL(12,4), encoded TEXT, KEY (date_start))"
        )
        days = list(days)
        for day in days:
            self.cursor.executemany(
                f"INSERT INTO `{name}` (date_start, account, spend, encoded) VALUES (%s, %s, %s, %s)",
                [report_values(day, number) for number in range(rows)],
            )
        since = min(days, default=today())
        self.configure(f"table.{name}", **(REPORTS | {"since": str(since)} | keys))

    def add_numbers(self, count: int) -> None:
        """Make the table `numbers` of `n` from 1 to at least `count`, on any server."""
        self.cursor.execute("CREATE TABLE numbers (n INT PRIMARY KEY)")
        self.cursor.execute("INSERT INTO numbers VALUES (1)")
        doubled = 1
        while doubled < count:
            self.cursor.execute("INSERT INTO numbers SELECT n + %s FROM numbers", (doubled,))
            doubled *= 2

    def start(
        self, *arguments: str, module: str = "luigi_jobs", scheduler: str = "", python_path: str = str(ROOT / "tests")
    ) -> subprocess.Popen[str]:
        """Start the luigi command in the project's folder, with a local scheduler or with luigid at `scheduler`."""
        where = ["--scheduler-url", scheduler] if scheduler else ["--local-scheduler"]
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("luigi")), "--module", module, *arguments, *where, "--no-lock"],
            cwd=self.folder,
            env=self.environment | {"PYTHONPATH": python_path, "LUIGI_CONFIG_PATH": "luigi.cfg"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def luigi(self, *arguments: str, **where: str) -> subprocess.CompletedProcess[str]:
        """Run the luigi command to its end; `stdout` holds all it printed."""
        process = self.start(*arguments, **where)
        try:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def keys(self, table: str = "reports") -> list[str]:
        """Every key below the table's prefix, in order."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/{table}/")
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def key(self, day: date, table: str = "reports") -> str:
        return f"{self.prefix}/{table}/date={day:%Y%m%d}/{table}.parquet"

    def days(self, table: str = "reports") -> list[date]:
        """The days in the lake, every key accounted for."""
        keys = self.keys(table)
        days = [datetime.strptime(key.split("date=")[1][:8], "%Y%m%d").date() for key in keys]
        assert keys == [self.key(day, table) for day in days]
        return days

    def put_days(self, days: Iterable[date], table: str = "reports") -> None:
        """Put something at the keys of days, as if they had been loaded."""
        for day in days:
            self.s3.put_object(Bucket=self.bucket, Key=self.key(day, table), Body=b"x")

    def remove_days(self, days: Iterable[date], table: str = "reports") -> None:
        for day in days:
            self.s3.delete_object(Bucket=self.bucket, Key=self.key(day, table))

    def read(self, day: date, table: str = "reports") -> Any:
        """The Arrow table of a day's object."""
        path = self.folder / "read.parquet"
        self.s3.download_file(self.bucket, self.key(day, table), str(path))
        return pq.ParquetFile(path).read()

    def check_reports(self, days: Iterable[date], table: str = "reports") -> None:
        """Assert that the lake has exactly `days`, and that each has exactly the rows MySQL has, decoded."""
        days = sorted(days)
        assert self.days(table) == days
        for day in days:
            self.cursor.execute(
                f"SELECT id, date_start, account, spend, FROM_BASE64(encoded) decoded FROM `{table}` "
                "WHERE date_start = %s ORDER BY id",
                (day,),
            )
            names = [column[0] for column in self.cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in self.cursor.fetchall()]
            loaded = self.read(day, table)
            assert loaded.schema.names == names
            assert hash_rows(loaded.sort_by("id").to_pylist()) == hash_rows(rows)

    def staged(self) -> list[str]:
        """Every file that is left in staging."""
        return sorted(str(path.relative_to(self.staging)) for path in self.staging.rglob("*") if path.is_file())


def table_settings(**values: Any) -> TableSettings:
    """Settings of a table without a luigi.cfg; what is not given is the default."""
    parsers = config._TABLE_KEYS.items()
    defaults = {name: key.parse(key.default) for name, key in parsers if key.default is not None}
    required = {"name": "reports", "source": "reports", "date_column": "date_start", "since": date(2021, 1, 1)}
    return TableSettings(**(defaults | required | values))


def report_values(day: date, number: int) -> tuple[date, int | None, str, str | None]:
    """Return the (date_start, account, spend, encoded) of a day's row."""
    document = json.dumps({"day": str(day), "number": number, "name": "Zürich 東京 😀"}, ensure_ascii=False)
    encoded = base64.b64encode(document.encode()).decode() if number % 5 else None
    return day, number if number % 7 else None, f"{number}.{number % 10000:04d}", encoded


def without_footer(parquet: bytes) -> bytes:
    """The encoded rows of a Parquet file; its footer says when the day was extracted."""
    assert parquet[-4:] == b"PAR1"
    return parquet[: -8 - int.from_bytes(parquet[-8:-4], "little")]


def hash_rows(rows: Iterable[dict[str, Any]]) -> str:
    return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()


def count_requests(client: Any, operation: str) -> Iterator[list[str]]:
    """Collect every request of an operation that a boto3 client sends."""
    sent: list[str] = []
    client.meta.events.register(f"before-send.s3.{operation}", lambda request, **_: sent.append(request.url))
    yield sent


def ask_luigid(url: str, what: str, **arguments: str) -> Any:
    """Ask luigid's API, which its pages show."""
    data = urlencode({"data": json.dumps(arguments)})
    with urlopen(f"{url}/api/{what}?{data}", timeout=10) as answer:
        return json.load(answer)["response"]

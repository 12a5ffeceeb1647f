"""What luigi.cfg says, as frozen values. Pure; config.py reads them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, tzinfo

from luigi_jobs.errors import ConfigError
from luigi_jobs.version import __version__

TABLE_SECTION = "table."


@dataclass(frozen=True)
class MySQLSettings:
    """[mysql]: one server, one database, one user who may SELECT. Times are seconds; 0 is no limit."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    ssl_mode: str
    ssl_ca: str
    driver: str
    connect_timeout_s: int
    read_timeout_s: int
    statement_timeout_s: int


@dataclass(frozen=True)
class LakeSettings:
    """[lake]: `bucket` is None when the lake is the local folder `root`; `prefix` is empty or ends in a slash."""

    url: str
    bucket: str | None
    prefix: str
    partition_key: str
    staging_dir: str
    timezone: tzinfo
    settle_hours: float
    connect_timeout_s: int
    read_timeout_s: int


@dataclass(frozen=True)
class DecodeRule:
    """`source -> target: decoder | decoder`; the source column is dropped, the target stands in its place."""

    source: str
    target: str
    decoders: tuple[str, ...]


@dataclass(frozen=True)
class DateRule:
    """`column: format`; a text column becomes days or moments by a format of `datetime.strptime`."""

    column: str
    form: str


@dataclass(frozen=True)
class TypeRule:
    """`column: type`; the column has this type in the lake, whatever MySQL's is."""

    column: str
    type: str


@dataclass(frozen=True)
class FingerprintRule:
    """What tells whether a day has changed: `count` (its rows), or besides `max` of a column, or `checksum`."""

    kind: str
    column: str = ""

    @property
    def name(self) -> str:
        """Return what is taken besides the rows; empty for nothing."""
        return {"count": "", "max": f"max({self.column})"}.get(self.kind, self.kind)


@dataclass(frozen=True)
class TableSettings:
    """[table.NAME]: `name` is the folder in the lake, `source` the table in MySQL."""

    name: str
    source: str
    date_column: str
    since: date
    types: tuple[TypeRule, ...]
    decode: tuple[DecodeRule, ...]
    on_decode_error: str
    dates: tuple[DateRule, ...]
    zero_dates: str
    transform: str
    schema_changes: str
    fingerprint: FingerprintRule
    refresh_days: int
    connections: int
    slice_mb: int


@dataclass(frozen=True)
class Settings:
    """All sections of luigi.cfg that this package reads."""

    mysql: MySQLSettings
    lake: LakeSettings
    tables: Mapping[str, TableSettings]

    def table(self, name: str) -> TableSettings:
        """Return a table's settings, or raise ConfigError for a table without a section."""
        if name not in self.tables:
            known = ", ".join(sorted(self.tables)) or "none"
            raise ConfigError(
                f"unknown table {name!r}: luigi.cfg has no section [{TABLE_SECTION}{name}]; tables: {known}", table=name
            )
        return self.tables[name]

    def hash(self, table: TableSettings) -> str:
        """Return a hash of every setting that decides what a day's rows are; secrets and timeouts are no part of it."""
        parts = (__version__, self.mysql.host, self.mysql.port, self.mysql.database, self.mysql.driver)
        return hashlib.sha256(
            repr((*parts, self.lake.partition_key, str(self.lake.timezone), table)).encode()
        ).hexdigest()

"""A server that is not the one which is meant, and wants the password: F35."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from invariants import CANARY
from project import Project
from trial import Trial

from luigi_jobs.mysql import connect
from luigi_jobs.source import describe_table

slow = pytest.mark.slow_fault
NATIVE, CLEAR, SHA2 = "mysql_native_password", "mysql_clear_password", "caching_sha2_password"
Rogue = tuple[int, Path]  # its port, and what it was sent


def make_certificate(folder: Path, name: str, signer: Path | None = None) -> Path:
    """Write NAME.pem, signed by a certificate of the same folder or by itself, and NAME.key; return the first."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("192.0.2.1"))]), critical=False
        )
    )
    issuer, issuers_key = subject, key
    if signer:
        issuer = x509.load_pem_x509_certificate(signer.read_bytes()).subject
        loaded = serialization.load_pem_private_key(signer.with_suffix(".key").read_bytes(), None)
        assert isinstance(loaded, rsa.RSAPrivateKey)
        issuers_key = loaded
    certificate = builder.issuer_name(issuer).sign(issuers_key, hashes.SHA256())
    path = folder / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def start_rogue(tmp_path: Path) -> Iterator[Callable[..., Rogue]]:
    """A function that starts a rogue server that asks by a plugin, maybe with a certificate."""
    running = []

    def start(plugin: str, certificate: Path | None = None) -> Rogue:
        received = tmp_path / f"received {len(running)}"
        received.write_bytes(b"")
        paths = [certificate, certificate.with_suffix(".key")] if certificate else []
        program = Path(__file__).with_name("rogue_server.py")
        process = subprocess.Popen(
            [sys.executable, program, plugin, received, *paths], stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout
        return int(process.stdout.readline()), received

    yield start
    for process in running:
        process.kill()
        process.communicate()


def assert_untold(received: Path) -> None:
    sent = received.read_bytes()
    assert CANARY.encode() not in sent
    assert CANARY.encode("latin1", "replace") not in sent


OWN_KEY = "a key of its own"
SELF_SIGNED = r"ConfigError: reports: MySQL \S+ is not whom ssl_ca vouches for: .*self.signed"
CASES = [
    ("no TLS", "REQUIRED", NATIVE, None, r"ConfigError: .* has no TLS, which \[mysql\] ssl_mode = REQUIRED asks for"),
    ("no TLS", "VERIFY_CA", NATIVE, None, r"ConfigError: .* has no TLS, which \[mysql\] ssl_mode = VERIFY_CA asks for"),
    ("self-signed", "VERIFY_CA", NATIVE, "rogue", SELF_SIGNED),
    ("self-signed", "VERIFY_IDENTITY", NATIVE, "rogue", SELF_SIGNED),
    (
        "wrong name",
        "VERIFY_IDENTITY",
        NATIVE,
        "signed",
        r"ConfigError: .* is not whom ssl_ca vouches for: .*IP address",
    ),
    ("clear text", "PREFERRED", CLEAR, None, r"ConfigError: .*refused the login .*clear-text password, which is never"),
    ("clear text", "PREFERRED", "dialog", None, r"ConfigError: .*refused the login .*clear-text password, which is ne"),
    ("clear text by TLS", "REQUIRED", CLEAR, "rogue", r"ConfigError: .*refused the login .*clear-text password, which"),
    (OWN_KEY, "PREFERRED", SHA2, None, r"ConfigError: .*refused the login .*sent by TLS only"),
    (OWN_KEY, "DISABLED", "sha256_password", None, r"ConfigError: .*refused the login .*sent by TLS only"),
]
LEAKS = pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="connectorx sends it without TLS, encrypted by any key the server shows"
)


@slow
@pytest.mark.fault("F35", "a rogue MySQL: no TLS, self-signed, of another name, asks for the password in clear")
@pytest.mark.parametrize(
    ("mode", "plugin", "certificate", "cause"),
    [case[1:] for case in CASES],
    ids=[f"{who}, {mode}, {plugin}" for who, mode, plugin, *_ in CASES],
)
def test_a_rogue_server_is_refused_before_it_has_the_password(
    small: Trial,
    start_rogue: Callable[..., Rogue],
    tmp_path: Path,
    mode: str,
    plugin: str,
    certificate: str,
    cause: str,
) -> None:
    authority = make_certificate(tmp_path, "authority")
    made = certificate and make_certificate(tmp_path, certificate, authority if certificate == "signed" else None)
    port, received = start_rogue(plugin, made)
    upstream, small.mysql.upstream = small.mysql.upstream, ("127.0.0.1", port)
    small.project.configure("mysql", ssl_mode=mode, ssl_ca=str(authority))

    run = small.run(cause=cause, within_s=30)

    assert run.code == 35
    assert small.missing == small.days
    assert_untold(received)

    def lift() -> None:
        small.mysql.upstream = upstream
        small.project.configure("mysql", ssl_mode=None, ssl_ca=None)

    small.heal(lift)


STREAM = """
import pickle, sys
from dataclasses import replace
from luigi_jobs.stream import Query, stream_rows
mysql, source = pickle.loads(sys.stdin.buffer.read())
try:
    list(stream_rows(mysql, source, Query("1")))
except Exception as error:
    print(type(error).__name__, error)
"""


@slow
@pytest.mark.fault("F35", "the same, when it takes the server's place after the first look")
@pytest.mark.parametrize(
    ("driver", "cases"),
    [
        pytest.param("pymysql", CASES, id="pymysql"),
        pytest.param("connectorx", [case for case in CASES if case[0] != OWN_KEY], id="connectorx"),
        pytest.param("connectorx", [case for case in CASES if case[0] == OWN_KEY], id="connectorx, key", marks=[LEAKS]),
    ],
)
def test_a_driver_that_meets_a_rogue_server_does_not_tell_the_password(
    project: Project, start_rogue: Callable[..., Rogue], tmp_path: Path, driver: str, cases: list[tuple[str, ...]]
) -> None:
    project.add_reports([])
    settings = project.load()
    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, settings.table("reports"))
    authority = make_certificate(tmp_path, "authority")
    made = {"rogue": make_certificate(tmp_path, "rogue"), "signed": make_certificate(tmp_path, "signed", authority)}
    rogues = [start_rogue(plugin, made.get(certificate)) for _, _, plugin, certificate, _ in cases]
    runs = []
    for (port, _), (_, mode, *_) in zip(rogues, cases, strict=True):
        # connectorx tries for half a minute, so all at once
        mysql = replace(
            settings.mysql,
            driver=driver, host="127.0.0.1", port=port, password=CANARY, ssl_mode=mode, ssl_ca=str(authority),
        )  # fmt: skip
        runs.append(subprocess.Popen([sys.executable, "-c", STREAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        runs[-1].stdin.write(pickle.dumps((mysql, source)))
        runs[-1].stdin.close()
        runs[-1].stdin = None
    said = [run.communicate(timeout=60)[0].decode() for run in runs]

    assert [run.returncode for run in runs] == [0] * len(cases)
    for text, (_, received) in zip(said, rogues, strict=True):
        assert text.split(" ")[0] in ("ConfigError", "SourceError", "LostConnectionError", "UnreachableError"), text
        assert CANARY not in text
        assert received.read_bytes() != b""
        assert_untold(received)

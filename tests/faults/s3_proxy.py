"""An HTTP proxy in front of the S3 server that answers, cuts or swallows the requests it is told to.

The client signs for the proxy's address; the proxy hands the Host header on as it came, so the signature stays right.
"""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

UPSTREAM_TIMEOUT_S = 60

META = "x-amz-meta-"
HOP_BY_HOP = ("connection", "keep-alive", "expect", "transfer-encoding")

CODES = {500: "InternalError", 503: "SlowDown", 429: "TooManyRequests", 403: "AccessDenied", 404: "NoSuchBucket"}


@dataclass(frozen=True)
class Request:
    """A request as it came, and the status that the client was told: 0 for none."""

    kind: str
    method: str
    path: str
    query: str
    status: int


@dataclass
class S3Fault:
    """What happens to the requests of a kind, from the `first` to the one before `first + times`.

    Attributes:
        kind: such as "PutObject"; "" is every kind.
        then: a status to answer with, "cut" (the answer ends in its middle), "lose_answer" (S3 has done it, the answer
            is lost), "truncate" (the last byte is not stored, the answer is 200), "flip" (another byte is stored and no
            metadata, the answer is 200), "not_forwarded" (nothing is done and nothing answered), or a function that is
            called while the request waits; then it goes on.
        code: S3's word for the status.
        after: requests count only when one of this kind has been seen; "" is from the start.
    """

    kind: str
    then: int | str | Callable[[], None]
    first: int = 1
    times: int = 1_000_000
    code: str = ""
    after: str = ""
    seen: int = 0

    def hits(self, kind: str) -> bool:
        """Count a request, and say whether it is hit."""
        if self.after == kind:
            self.after = ""
        if self.after or self.kind not in ("", kind):
            return False
        self.seen += 1
        return self.first <= self.seen < self.first + self.times


class Silence:
    """What S3Fault calls to take requests and answer none of them; `since` has when each began."""

    def __init__(self) -> None:
        self.since: list[float] = []
        self._is_over = threading.Event()

    def __call__(self) -> None:
        """Keep a request waiting to the end, then lose it."""
        self.since.append(time.monotonic())
        self._is_over.wait()
        raise ConnectionAbortedError

    def end(self) -> None:
        """Hang up on all that wait."""
        self._is_over.set()


class S3Proxy:
    """Forwards `url` to the S3 server; `faults` may be changed while it runs, the first that hits is taken."""

    def __init__(self, upstream: str, put_object: Callable[..., Any]):
        """Start.

        Args:
            upstream: the S3 server's URL.
            put_object: boto3's, straight to the server, for what only a broken server would store.
        """
        self.faults: list[S3Fault] = []
        self.tells_checksums = True
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.upstream = urlsplit(upstream)
        self.put_object = put_object
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="s3-proxy", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Return what clients take as their endpoint."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def count(self) -> Counter[str]:
        """Return the number of requests by kind."""
        with self.lock:
            return Counter(request.kind for request in self.requests)

    def statuses(self, kind: str) -> list[int]:
        """Return what the clients were told to the requests of a kind, in their order."""
        with self.lock:
            return [request.status for request in self.requests if request.kind == kind]

    def lift(self) -> None:
        """Forward everything again."""
        self.faults = []
        self.tells_checksums = True

    def stop(self) -> None:
        """End the proxy."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def choose(self, kind: str) -> S3Fault | None:
        """Return the fault that hits a request."""
        with self.lock:
            hit = [fault for fault in self.faults if fault.hits(kind)]
        return hit[0] if hit else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], proxy: S3Proxy):
        self.proxy = proxy
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients are killed, and answers lost, on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_any(self) -> None:
        proxy, target = self.server.proxy, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = name_kind(self.command, target.path, target.query)
        fault = proxy.choose(kind)
        then = fault.then if fault else "forward"
        if callable(then):
            then()
            then = "forward"
        if isinstance(then, int):
            answer = self.answer_with(then, (fault and fault.code) or CODES.get(then, "InternalError"))
        elif then in ("truncate", "flip"):
            bucket, key = unquote(target.path).lstrip("/").split("/", 1)
            other = body[:-1] if then == "truncate" else body[:99] + bytes([body[99] ^ 1]) + body[100:]
            metadata = {
                name[len(META) :]: value for name, value in self.headers.items() if name.lower().startswith(META)
            }
            kept = metadata if then == "truncate" else {}
            stored = proxy.put_object(Bucket=bucket, Key=key, Body=other, Metadata=kept)
            answer = 200, [("ETag", stored["ETag"])], b""
        elif then == "not_forwarded":
            answer = 0, [], b""
        else:
            answer = self.forward(body)
        is_lost = then in ("lose_answer", "not_forwarded")
        with proxy.lock:
            told = 0 if is_lost else answer[0]
            proxy.requests.append(Request(kind, self.command, target.path, target.query, told))
        if is_lost:
            self.close_connection = True
            return
        self.send(*answer, cut=then == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = self.server.proxy.upstream
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=UPSTREAM_TIMEOUT_S)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            headers = [
                (name, value)
                for name, value in answer.getheaders()
                if name.lower() not in HOP_BY_HOP
                and (self.server.proxy.tells_checksums or not name.lower().startswith("x-amz-checksum"))
            ]
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def answer_with(self, status: int, code: str) -> tuple[int, list[tuple[str, str]], bytes]:
        document = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>'
        return status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else document.encode()

    def send(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.wfile.flush()
        self.close_connection = self.close_connection or cut

    def log_message(self, *_: object) -> None:
        """Keep quiet; `requests` has it all."""


def name_kind(method: str, path: str, query: str) -> str:
    """Return S3's name of an operation."""
    has = parse_qs(query, keep_blank_values=True)
    is_bucket = "/" not in path.strip("/")
    if "uploadId" in has:
        named = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
    elif "uploads" in has:
        named = {"GET": "ListMultipartUploads", "POST": "CreateMultipartUpload"}
    elif is_bucket:
        named = {"GET": "ListObjectsV2", "HEAD": "HeadBucket"}
    else:
        named = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
    return named.get(method, method)

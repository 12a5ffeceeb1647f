"""A server that speaks MySQL's protocol as far as the login, and asks for the password in the way it is told.

A process of its own, because connectorx lets no other thread of its process run while it waits:
`python rogue_server.py PLUGIN FILE [CERTIFICATE KEY]` prints its port, and writes all it is sent to FILE, what came by
TLS or was encrypted for its own key in clear.
Source: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html
"""

import socket
import socketserver
import ssl
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SALT = b"abcdefghijklmnopqrst"
LONG_PASSWORD, WITH_DB, PROTOCOL_41, SSL, TRANSACTIONS, SECURE, PLUGIN_AUTH = (
    1,
    8,
    0x200,
    0x800,
    0x2000,
    0x8000,
    0x80000,
)
MORE, FULL_LOGIN, WANTS_KEY = b"\x01", b"\x04", (b"\x01", b"\x02")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Rogue(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, plugin: str, received: Path, certificate: list[str]):
        self.plugin, self.received = plugin.encode(), received
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self.context:
            self.context.load_cert_chain(*certificate)
        super().__init__(("127.0.0.1", 0), Login)

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients go away, which is what is wanted."""


class Login(socketserver.BaseRequestHandler):
    server: Rogue

    def handle(self) -> None:
        self.note(b"a client")
        self.line: socket.socket = self.request
        self.number = 0
        self.send(self.greeting())
        answer = self.receive()
        if self.server.context and struct.unpack("<I", answer[:4])[0] & SSL:
            self.line = self.server.context.wrap_socket(self.line, server_side=True)
            answer = self.receive()
        self.send(b"\xfe" + self.server.plugin + b"\0" + SALT + b"\0")
        while answer := self.receive():
            if answer in WANTS_KEY:
                self.send(MORE + PUBLIC)
                self.decrypt(self.receive())
                return
            self.send(MORE + FULL_LOGIN if self.server.plugin == b"caching_sha2_password" else MORE + b"Password: ")

    def greeting(self) -> bytes:
        has = LONG_PASSWORD | WITH_DB | PROTOCOL_41 | TRANSACTIONS | SECURE | PLUGIN_AUTH
        has |= SSL if self.server.context else 0
        head = b"\x0a8.0.36\0" + struct.pack("<I", 7) + SALT[:8] + b"\0" + struct.pack("<H", has & 0xFFFF)
        tail = struct.pack("<BHHB", 45, 2, has >> 16, 21) + bytes(10) + SALT[8:] + b"\0mysql_native_password\0"
        return head + tail

    def send(self, payload: bytes) -> None:
        self.line.sendall(struct.pack("<I", len(payload))[:3] + bytes([self.number % 256]) + payload)

    def receive(self) -> bytes:
        head = self.read(4)
        self.number = head[3] + 1
        payload = self.read(int.from_bytes(head[:3], "little"))
        self.note(payload)
        return payload

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (chunk := self.line.recv(size - len(data))):
                raise ConnectionError("the client has gone away")
            data += chunk
        return data

    def decrypt(self, payload: bytes) -> None:
        oaep = padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA1()), algorithm=hashes.SHA1(), label=None)
        mixed = KEY.decrypt(payload, oaep)
        self.note(bytes(byte ^ SALT[place % len(SALT)] for place, byte in enumerate(mixed)))

    def note(self, payload: bytes) -> None:
        with open(self.server.received, "ab") as file:
            file.write(payload + b"\n")


if __name__ == "__main__":
    with Rogue(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]) as server:
        print(server.server_address[1], flush=True)  # noqa: T201
        server.serve_forever(0.05)

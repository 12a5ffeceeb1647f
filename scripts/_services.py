"""The parts of scripts/services that Python says better. Secrets come by environment or file, never by argument."""

from __future__ import annotations

import json
import os
import random
import shlex
import socket
import sys
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_ports(file: Path, count: int) -> list[int]:
    """Return the ports of the last time while they are free, else new ones, and write them down."""
    ports = [int(word) for word in file.read_text().split()] if file.exists() else []
    if len(ports) != count or not all(is_free(port) for port in ports):
        # Below Linux's range for outgoing connections, which would take a port while its server is down.
        ports = [port for port in random.sample(range(12000, 32000), 200) if is_free(port)][:count]
        file.write_text(" ".join(map(str, ports)) + "\n")
    return ports


def probe_mariadb(folder: Path, port: int) -> None:
    import pymysql  # noqa: PLC0415 - choosing ports and waiting for luigid need no client

    password = (folder / "secret").read_text().strip()
    pymysql.connect(
        host="127.0.0.1", port=port, user="luigi", password=password, database="luigi_jobs", connect_timeout=5
    ).close()


def probe_s3(folder: Path, port: int) -> None:
    import boto3  # noqa: PLC0415 - slow to import, and only this probe needs it

    session = boto3.Session("luigi_jobs", (folder / "secret").read_text().strip(), region_name="us-east-1")
    session.client("s3", endpoint_url=f"http://127.0.0.1:{port}").list_buckets()
    # A PUT fails until the volume server has told the master of its room.
    master = (folder / "ports").read_text().split()[2]
    with urllib.request.urlopen(f"http://127.0.0.1:{master}/dir/status", timeout=5) as answer:
        if json.load(answer)["Topology"]["Max"] == 0:
            raise SystemExit("no volume server yet")


def probe_luigid(_folder: Path, port: int) -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{port}/api/resource_list", timeout=5).close()


PROBES = {"mariadb": probe_mariadb, "s3": probe_s3, "luigid": probe_luigid}


def list_exports() -> list[str]:
    """Return the lines of the env file, made from this process's environment."""
    url = urlsplit(os.environ["MYSQL_URL"])
    values = {
        "MYSQL_URL": os.environ["MYSQL_URL"],
        "MYSQL_HOST": url.hostname or "",
        "MYSQL_PORT": str(url.port or 3306),
        "MYSQL_USER": unquote(url.username or ""),
        "MYSQL_PASSWORD": unquote(url.password or ""),
        "MYSQL_DATABASE": unquote(url.path[1:]),
        "S3_ENDPOINT_URL": os.environ["S3_ENDPOINT_URL"],
        "AWS_ACCESS_KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID"),
        "AWS_SECRET_ACCESS_KEY": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "AWS_SESSION_TOKEN": os.environ.get("AWS_SESSION_TOKEN"),
        "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        "LUIGID_URL": f"http://127.0.0.1:{os.environ['LUIGID_PORT']}",
        "LUIGID_PORT": os.environ["LUIGID_PORT"],
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items() if value is not None]


def main(command: str, *arguments: str) -> None:
    if command == "ports":
        print(*choose_ports(Path(arguments[0]), int(arguments[1])))
    elif command == "probe":
        folder = Path(arguments[0])
        PROBES[folder.name](folder, int((folder / "ports").read_text().split()[0]))
    elif command == "exports":
        print(*list_exports(), sep="\n")
    else:
        raise SystemExit(f"unknown command {command}")


if __name__ == "__main__":
    main(*sys.argv[1:])

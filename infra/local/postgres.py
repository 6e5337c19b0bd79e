"""The embedded PostgreSQL: a cluster of its own in the home folder, on a port of its own.

PostgreSQL refuses to run as root. Started as root, the server and its folder belong to another
user; started by anybody else, to that user.
"""

import hashlib
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infra.local import StartupError

DATABASE = "mlops"
SUPERUSER = "mlops"
_SERVER_USERS = ("postgres", "nobody")

# Small: an idle stack should cost next to nothing. Everything else is PostgreSQL's default.
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 40
shared_buffers = 64MB
max_parallel_workers_per_gather = 0
password_encryption = 'scram-sha-256'
log_destination = 'stderr'
logging_collector = off
timezone = 'UTC'
jit = off
"""


@dataclass(frozen=True)
class Binaries:
    """A PostgreSQL installation that has PostGIS."""

    folder: Path
    version: int

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


def find_binaries() -> Binaries:
    """The newest PostgreSQL installation with PostGIS; StartupError names the package to install.

    ``MLOPS_PG_BIN`` names the folder of the binaries and ends the search.
    """
    given = os.environ.get("MLOPS_PG_BIN")
    found = [_inspect(folder) for folder in ([Path(given)] if given else _candidates())]
    usable = sorted((b for b in found if b is not None), key=lambda b: b.version, reverse=True)
    with_postgis = [b for b in usable if _has_postgis(b)]
    if with_postgis:
        return with_postgis[0]
    if usable:
        version = usable[0].version
        raise StartupError(
            f"PostgreSQL {version} is installed, but PostGIS for it is not. Install it: "
            f"`apt-get install postgresql-{version}-postgis-3` (Debian, Ubuntu), "
            "`brew install postgis` (macOS), or name a database with MLOPS_DATABASE_URL."
        )
    raise StartupError(
        "PostgreSQL is not installed. Install it with PostGIS: `apt-get install postgresql "
        "postgresql-15-postgis-3` (Debian 12; other releases carry another number), "
        "`brew install postgresql postgis` (macOS), set MLOPS_PG_BIN to the folder of its "
        "binaries, or name a database with MLOPS_DATABASE_URL."
    )


def _candidates() -> list[Path]:
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    for brew in ("/opt/homebrew/opt", "/usr/local/opt"):
        folders += Path(brew).glob("postgresql*/bin")
    on_path = shutil.which("pg_ctl")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    return folders


def _inspect(folder: Path) -> Binaries | None:
    if not all((folder / name).is_file() for name in ("initdb", "pg_ctl", "postgres")):
        return None
    answer = subprocess.run(
        [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False
    )
    match = re.search(r"(\d+)", answer.stdout)
    return Binaries(folder, int(match[1])) if match else None


def _has_postgis(binaries: Binaries) -> bool:
    config = binaries.folder / "pg_config"
    if config.is_file():
        answer = subprocess.run(
            [str(config), "--sharedir"], capture_output=True, text=True, check=False
        )
        shares = [Path(answer.stdout.strip())]
    else:
        shares = []
    # Debian's pg_config comes with the development package only; its layout is known.
    shares.append(Path(f"/usr/share/postgresql/{binaries.version}"))
    return any((share / "extension" / "postgis.control").is_file() for share in shares)


class Cluster:
    """The embedded cluster of one home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.binaries = find_binaries()
        self.owner = _server_user() if os.geteuid() == 0 else None
        self.folder = self._place()
        self.data = self.folder / "data"
        self.log = self.folder / "postgres.log"
        self._last_port = self.folder / "port"

    def start(self) -> str:
        """Start the server, making the cluster at first; return the URL of the database.

        The port is that of the last start where it is free.
        """
        if not (self.data / "PG_VERSION").is_file():
            self._create()
        self._check_version()
        port = self.port()
        if port is None:
            port = self._start(_free_port(self._remembered_port()))
        return self.url(port)

    def revive(self) -> bool:
        """Start the server again where it was, for those who hold its URL; False when it runs."""
        port = self._remembered_port()
        if port is None or self.port() is not None:
            return False
        self._start(port)
        return True

    def stop(self) -> None:
        """Stop the server if it runs; sessions are ended, transactions in flight roll back."""
        if self.port() is not None:
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w")

    def url(self, port: int) -> str:
        """The URL of the database, password included: it is a secret."""
        password = quote(self._password(), safe="")
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{DATABASE}"

    def port(self) -> int | None:
        """The port of the running server, or None when none runs."""
        status = self._run("pg_ctl", "status", "-D", str(self.data), check=False)
        if status.returncode != 0:
            return None
        lines = (self.data / "postmaster.pid").read_text().splitlines()
        return int(lines[3])

    def _place(self) -> Path:
        """Where the cluster lies: in the home folder wherever the server's user can get there."""
        inside = self.home / "postgres"
        if self.owner is None or _reachable(self.home, self.owner):
            return inside
        # A home below a folder that only root may enter (/root, a private temporary folder).
        name = hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:16]
        outside = Path("/var/lib/stac-mlops") / name
        if not inside.is_symlink():
            outside.mkdir(parents=True, exist_ok=True)
            inside.symlink_to(outside)
        return outside

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)
        password_file = self.folder / "password"
        _write_private(password_file, secrets.token_urlsafe(24))
        if self.owner is not None:
            for path in (self.folder, password_file):
                os.chown(path, self.owner.pw_uid, self.owner.pw_gid)
        self._run(
            *("initdb", "-D", str(self.data), "-U", SUPERUSER, "-A", "scram-sha-256"),
            *("--pwfile", str(password_file), "-E", "UTF8", "--locale", "C.UTF-8"),
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION)
        port = self._start(_free_port())
        self._create_database(port)

    def _create_database(self, port: int) -> None:
        import psycopg

        administration = self.url(port).removesuffix(DATABASE) + "postgres"
        with psycopg.connect(administration, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{DATABASE}"')

    def _start(self, port: int) -> int:
        with self.log.open("a") as log:
            if self.owner is not None:
                os.chown(self.log, self.owner.pw_uid, self.owner.pw_gid)
            started = self._run(
                *("pg_ctl", "start", "-D", str(self.data), "-w", "-t", "60", "-s"),
                *("-o", f"-p {port}", "-l", str(self.log)),
                check=False,
            )
            log.flush()
        if started.returncode != 0:
            tail = "\n".join(self.log.read_text().splitlines()[-10:])
            raise StartupError(f"PostgreSQL did not start; the end of {self.log} says:\n{tail}")
        self._last_port.write_text(str(port))
        return port

    def _remembered_port(self) -> int | None:
        try:
            return int(self._last_port.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _check_version(self) -> None:
        made_by = int((self.data / "PG_VERSION").read_text().split(".")[0])
        if made_by != self.binaries.version:
            raise StartupError(
                f"the cluster in {self.data} was made by PostgreSQL {made_by}, but version "
                f"{self.binaries.version} was found. Install version {made_by} with PostGIS, or "
                "set MLOPS_PG_BIN to the folder of its binaries."
            )

    def _password(self) -> str:
        return (self.folder / "password").read_text().strip()

    def _run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        owner = self.owner
        # From the root folder: the server's user may not enter the present one.
        # pg_ctl's server would keep a pipe open for ever, so its output goes nowhere or to a file.
        result = subprocess.run(
            [self.binaries[command[0]], *command[1:]],
            cwd="/",
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if command[0] == "initdb" else subprocess.DEVNULL,
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
            # A session of its own: Ctrl-C in the terminal is for the service, which then stops
            # the server in good order.
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
            check=False,
        )
        if check and result.returncode != 0:
            raise StartupError(f"{command[0]} failed: {(result.stderr or '').strip()[-2000:]}")
        return result


def _server_user() -> pwd.struct_passwd:
    for name in _SERVER_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StartupError(
        "PostgreSQL cannot run as root, and there is no user `postgres` or `nobody` to run it as. "
        "Start this as another user."
    )


def _reachable(folder: Path, user: pwd.struct_passwd) -> bool:
    """Whether ``user`` may enter every folder on the way to and including ``folder``."""
    for path in (folder.resolve(), *folder.resolve().parents):
        if not path.exists():
            continue
        status = path.stat()
        if status.st_uid == user.pw_uid:
            bit = 0o100
        elif status.st_gid == user.pw_gid:
            bit = 0o010
        else:
            bit = 0o001
        if not status.st_mode & bit:
            return False
    return True


def _free_port(wanted: int | None = None) -> int:
    """A port that is free: ``wanted`` if possible."""
    with socket.socket() as probe:
        # As PostgreSQL does: connections of an ended server that linger do not hold its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError:
            if not wanted:
                raise
            return _free_port()
        return int(probe.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)

"""A real WordPress on loopback: native PHP and SQLite, everything of it fetched from npm at run time.

WordPress is GPL and therefore fetched by whoever runs this, never shipped with the platform.
"""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import httpx

from bizosaas_sandbox.servers.base import Say, ServerError, UnavailableError, silent
from bizosaas_sandbox.servers.binaries import Binary
from bizosaas_sandbox.servers.node import runs_native_linux
from bizosaas_sandbox.servers.npm import CACHE, fetched, run_npm
from bizosaas_sandbox.servers.process import ProcessServer
from bizosaas_sandbox.servers.stand_in import StandIn

VERSION = "7.1.1"
# WordPress' own site is not a package registry; this package carries WordPress and its SQLite plug-in, unpacked.
PACKAGE = "wp-studio@1.22.0"
INTEGRITY = "sha512-boMtahkhgWDKKyNTBA1uTK5ghnAmxXhDY6KeQCO9FmcI3/o+YOSq8JwYW5ZYnxHCxH14Jf/mD6CJTBvTWl2Ytw=="
INSIDE = "package/dist/cli/wp-files/"
CORE, PLUGIN = "core", "sqlite-database-integration"
EXTENSIONS = (
    *("ctype", "curl", "dom", "mbstring", "exif", "fileinfo", "gd", "iconv", "intl", "pdo", "phar", "posix"),
    *("simplexml", "sodium", "sqlite3", "tokenizer", "xml", "zip", "pdo_sqlite", "xmlreader", "xmlwriter"),
)


class WordPress(ProcessServer):
    """A WordPress site with the users admin, editor and author, and an application password for each.

    `url` is the site, `{url}/wp-json/wp/v2` its REST API; it sends nothing out, neither mail nor requests. The site
    moves with its data folder: posts and passwords stay as they are, also when it comes back on another port.
    """

    name = "WordPress"
    stop_signal = signal.SIGINT

    def __init__(self, data: Path, *, port: int = 0, say: Say = silent, workers: int = 4, cache: Path = CACHE) -> None:
        super().__init__(data, port=port, say=say)
        self._workers = workers
        self._cache = cache

    def find(self) -> Binary:
        if not runs_native_linux():
            raise UnavailableError(self.name, "its PHP is built for Linux on x86-64 with glibc 2.34 or newer only")
        return Binary(path=self._php_home / "php" / "php", version=VERSION, source="npm")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def app_passwords(self) -> Mapping[str, str]:
        """The application password of each user, by login."""
        passwords: dict[str, str] = json.loads(self._credentials.read_text())["app_passwords"]
        return passwords

    def auth(self, login: str = "admin") -> tuple[str, str]:
        """Login and application password, as HTTP clients take them."""
        return login, self.app_passwords[login]

    def prepare(self) -> None:
        self._lay_out()
        if not self._credentials.exists():
            self.say(f"installing a new {self.name} {self.version} site")
            script = self._home / "php" / "install.php"
            done = subprocess.run(
                self._php(script), env=self.environment(), capture_output=True, text=True, check=False, timeout=120
            )
            if done.returncode or not done.stdout.strip().startswith("{"):
                raise ServerError(self.name, "its installation failed", (done.stdout + done.stderr)[-2000:])
            self._credentials.touch(mode=0o600)
            self._credentials.write_text(done.stdout)

    def command(self) -> list[str | Path]:
        router = self._home / "php" / "router.php"
        return self._php("-S", f"127.0.0.1:{self.port}", "-t", self.data / "www", router)

    def environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "LD_LIBRARY_PATH": str(self._php_home / "lib"),
            "PHP_INI_SCAN_DIR": "",
            "PHP_CLI_SERVER_WORKERS": str(self._workers),
            "WP_SITE": str(self.data),
            "WP_BASE": self.url,
            "WP_CORE": str(self._home / CORE),
        }

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/wp-json/wp/v2/posts?per_page=1", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    @cached_property
    def _home(self) -> Path:
        return fetched("wordpress", self._cache, self.say, self._fetch_core)

    @property
    def _credentials(self) -> Path:
        return self.data / "credentials.json"

    @property
    def _php_home(self) -> Path:
        return self._home / "node_modules" / "@libphp" / "amazon-linux-2023-v84" / "native"

    def _php(self, *arguments: str | Path) -> list[str | Path]:
        return [self.binary.path, "-c", self.data / "php.ini", *arguments]

    def _lay_out(self) -> None:
        """One read-only core serves many sites: a site is links into it, plus what belongs to the site alone."""
        core, plugin, www = self._home / CORE, self._home / PLUGIN, self.data / "www"
        for folder in ("db", "tmp", "www/wp-content/uploads", "www/wp-content/plugins", "www/wp-content/mu-plugins"):
            (self.data / folder).mkdir(parents=True, exist_ok=True)
        for entry in core.iterdir():
            if entry.name not in ("wp-content", "wp-config-sample.php", "wp-config.php"):
                _link(www / entry.name, entry)
        _link(www / "wp-content" / "themes", core / "wp-content" / "themes")
        drop_in = (plugin / "db.copy").read_text().replace("{SQLITE_IMPLEMENTATION_FOLDER_PATH}", str(plugin))
        (www / "wp-content" / "db.php").write_text(drop_in.replace("{SQLITE_PLUGIN}", f"{PLUGIN}/load.php"))
        temporary = self.data / "tmp"
        settings = [
            f"extension_dir={self._php_home}/php/modules",
            "zend_extension=opcache",
            *(f"extension={extension}" for extension in EXTENSIONS),
            *("opcache.enable=1", "opcache.enable_cli=1", "opcache.memory_consumption=128"),
            *("memory_limit=256M", "upload_max_filesize=32M", "post_max_size=40M", "max_execution_time=60"),
            *("display_errors=0", "log_errors=1", "expose_php=0", "sendmail_path=/bin/true"),
            *(f"sys_temp_dir={temporary}", f"upload_tmp_dir={temporary}"),
        ]
        (self.data / "php.ini").write_text("\n".join(settings) + "\n")

    def _fetch_core(self, home: Path) -> None:
        """Take WordPress out of the tarball alone: installing that package would bring 40 others, browsers included."""
        with tempfile.TemporaryDirectory(dir=home) as folder:
            doing = f"fetching WordPress {VERSION}, about 70 MB"
            packed = json.loads(run_npm(self.name, ["pack", "--json", PACKAGE], Path(folder), self.say, doing))
            told = packed[0] if isinstance(packed, list) else next(iter(packed.values()))
            if told["integrity"] != INTEGRITY:
                raise UnavailableError(self.name, f"{PACKAGE} is not the package it was when this was written")
            kept = (f"{INSIDE}latest/wordpress/", f"{INSIDE}{PLUGIN}/")
            with tarfile.open(Path(folder) / told["filename"]) as tar:
                wanted = (member for member in tar if member.isfile() and member.name.startswith(kept))
                tar.extractall(folder, members=wanted, filter="data")
            unpacked = Path(folder) / INSIDE
            shutil.copy(home / "php" / "wp-config.php", unpacked / "latest" / "wordpress" / "wp-config.php")
            shutil.move(unpacked / PLUGIN, home / PLUGIN)
            shutil.move(unpacked / "latest" / "wordpress", home / CORE)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink():
        if link.readlink() == target:
            return
        link.unlink()  # the cache has moved since
    link.symlink_to(target)


class WordPressStandIn(StandIn):
    """What is used in WordPress' place where it cannot be had; its users and their rights are the same."""

    name = "WordPress stand-in"

    def __init__(self, data: Path, *, port: int = 0, say: Say = silent) -> None:
        super().__init__(data, provider="wordpress", port=port, say=say)

    @property
    def app_passwords(self) -> Mapping[str, str]:
        passwords: Mapping[str, str] = self.credentials["app_passwords"]
        return passwords

    def auth(self, login: str = "admin") -> tuple[str, str]:
        return login, self.app_passwords[login]


def start_wordpress(
    data: Path, *, port: int = 0, say: Say = silent, cache: Path = CACHE
) -> WordPress | WordPressStandIn:
    """Start the real WordPress, or where it cannot be had its stand-in, saying why."""
    try:
        return WordPress(data / "wordpress", port=port, say=say, cache=cache).start()
    except UnavailableError as error:
        say(f"no real WordPress ({error.reason}): its stand-in takes its place")
        return WordPressStandIn(data / "wordpress-stand-in", port=port, say=say).start()

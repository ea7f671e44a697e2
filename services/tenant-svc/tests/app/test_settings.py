"""A wrong setting ends the process at once, with one line that names it and without a value."""

import asyncio
import os
import subprocess
import sys

import pytest

from bizosaas_ports.sealing import SealingKey

KEY = SealingKey.generate().export()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"BIZOS_SEALING_KEY": "hunter2"}, "BIZOS_SEALING_KEY is wrong"),
        ({"BIZOS_PERSONAL_MASTER_KEY": "hunter2"}, "BIZOS_PERSONAL_MASTER_KEY is wrong"),
        ({"BIZOS_ADMIN_EMAIL": "root"}, "BIZOS_ADMIN_EMAIL is wrong: This is not an e-mail address"),
        ({"BIZOS_ADMIN_PASSWORD": "hunter2"}, "BIZOS_ADMIN_PASSWORD is wrong: The password is shorter than 12"),
        ({"BIZOS_ADMIN_PASSWORD": ""}, "BIZOS_ADMIN_PASSWORD is wrong"),
    ],
)
async def test_a_wrong_setting_stops_the_start_and_names_itself(
    database_url: str, redis_url: str, env_name: str, change: dict[str, str], says: str
) -> None:
    settings = {
        "BIZOS_DATABASE_URL": database_url, "BIZOS_REDIS_URL": redis_url, "BIZOS_ENV": env_name,
        "BIZOS_HEALTH_PORT": "0", "BIZOS_SEALING_KEY": KEY, "BIZOS_PERSONAL_MASTER_KEY": KEY,
        "BIZOS_ADMIN_EMAIL": "root@bizos.test",
        "BIZOS_ADMIN_PASSWORD": "correct horse battery",
    }  # fmt: skip

    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "tenant_svc"], env={**os.environ, **settings, **change},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ended.returncode == 78, ended.stderr
    assert says in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr

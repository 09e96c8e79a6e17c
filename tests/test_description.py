"""The OpenAPI document against what is served, by a tool that nobody here wrote: schemathesis."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Repo
from daemon_process import FILES, DaemonProcess, ended, rewriting

CONFIG = """
seed = 7

[parameters]
"path.repository" = "{repository}"
"path.run" = "r1"
"path.task" = "t0"
"query.task" = "t0"

[checks.positive_data_acceptance]
# A plan, a path or a name may be of the right shape and still mean nothing here: that is told with 422.
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 422, 429, 503]

[[operations]]
# It ends when the run does, and is tested in test_daemon.
include-operation-id = "events"
enabled = false
"""


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path, repo: Repo) -> None:
    """Hundreds of requests made from the document, right and wrong, with real runs to talk about: every answer is one that it foretells,
    what it forbids is refused, and the daemon goes on."""
    program = Path(sys.executable).with_name("schemathesis")
    found = str(program) if program.exists() else shutil.which("schemathesis")
    if found is None:
        pytest.skip("schemathesis is not installed")
    repo.commit(FILES)
    daemon = DaemonProcess(tmp_path, "--tcp", "0", "--instances", "2")
    try:
        runs = daemon.register(repo)
        with daemon.client() as client:
            assert ended(client, client.post(runs, json={"plan": rewriting(0, 1)}).headers["location"])["ok"]
        config = tmp_path / "schemathesis.toml"
        config.write_text(CONFIG.format(repository=runs.split("/")[3]))
        done = subprocess.run(
            [
                found, "--config-file", str(config), "run", f"http://127.0.0.1:{daemon.port}/v1/openapi.json", "--max-examples", "8",
                "--header", f"Authorization: Bearer {daemon.token}", "--no-color", "--suppress-health-check", "all",
            ],
            capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        with daemon.client() as client:
            assert client.get("/v1/health").json()["ok"]
        assert daemon.stop() == 0
        assert not [one for one in daemon.log if one["event"] == "bug" or one["level"] == "error"]
    finally:
        daemon.close()

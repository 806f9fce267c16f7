"""`movq up` is deploy's launcher with options instead of an environment."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from deploy import local
from deploy.local import Options, greeting
from movq_cli.app import app


def test_options_reach_the_launcher(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(local.Launcher, "run", lambda self: started.append(self.options) or 0)
    told = [
        "--models",
        str(tmp_path / "mine"),
        "--models",
        str(tmp_path / "other"),
        "--port",
        "8123",
        "--host",
        "0.0.0.0",
        "--data-dir",
        str(tmp_path),
    ]
    assert CliRunner().invoke(app, ["up", *told]).exit_code == 0
    folders = (tmp_path / "mine").resolve(), (tmp_path / "other").resolve()
    assert started == [Options("0.0.0.0", 8123, tmp_path.resolve(), folders)]


def test_no_bundle_is_said_and_how_to_name_one(tmp_path):
    code = "import sys; from movq_cli.app import app; app(sys.argv[1:])"
    told = ["up", "--models", str(tmp_path), "--data-dir", str(tmp_path)]
    ended = subprocess.run([sys.executable, "-c", code, *told], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "There is no model in" in ended.stderr
    assert "--models" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("classes", "body"), [(True, {"class_id": 0, "steps": 12}), (False, {"steps": 12})])
def test_the_greeting_is_a_request_that_the_bundle_can_answer(classes, body):
    assert f"-d '{json.dumps(body)}'" in greeting("http://here", classes)


def test_its_help_needs_no_torch():
    code = "import sys; from movq_cli.app import app; app(['up', '--help'], standalone_mode=False)"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "--models" in ended.stdout

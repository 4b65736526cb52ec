"""A project of a user: what it adds to every command, and what a stranger's ``pyproject.toml`` does not."""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hydra import compose, initialize_config_dir

from backlit.cli.known_keys import option_names
from backlit.errors import ConfigError
from backlit.load import load_run
from backlit.project import find_project
from tests.conftest import CallCommand
from tests.helpers.commands import compose_config
from tests.helpers.own_package import PYPROJECT, write_project
from tests.helpers.runs import only_run, only_sweep, read_record

COMMANDS = [
    *(["backlit-train", *more] for more in (["experiment=mine"], ["-m", "seed=1,2"], ["resume=latest"], ["rerun=x"])),
    *([f"backlit-{name}", "run=latest"] for name in ("evaluate", "predict", "export")),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that Python finds, as if it were installed; it is the working directory."""
    directory = tmp_path / "my project"
    write_project(directory)
    monkeypatch.syspath_prepend(directory / "src")
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    monkeypatch.chdir(directory)
    return directory


def problem() -> str:
    with pytest.raises(ConfigError) as raised:
        find_project()
    return str(raised.value).replace(str(Path.cwd()), "HERE")


def test_the_nearest_pyproject_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    for directory in (project, below):
        monkeypatch.chdir(directory)
        found = find_project()
        assert found is not None
        assert (found.conf, found.packages) == (project / "conf", ("my_package",))
    (project / "a" / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert find_project() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tool.backlit", "HERE/pyproject.toml must be TOML: "),
        ("x = " + "[" * 10_000, "HERE/pyproject.toml must be TOML: "),
        ("tool.backlit = 3", "tool.backlit must be a table with conf and packages, got 3 in HERE/pyproject.toml"),
        ("[tool.backlit]", 'tool.backlit.conf must be given in HERE/pyproject.toml: conf = "conf"\ntool.backlit.packa'),
        (
            PYPROJECT.replace("conf =", "config ="),
            "tool.backlit.config: no such key in HERE/pyproject.toml; there are conf and packages\ntool.backlit.conf m",
        ),
        (PYPROJECT.replace('"conf"', "3"), "tool.backlit.conf must be a directory beside HERE/pyproject.toml, got 3"),
        (PYPROJECT.replace('"conf"', '"cnf"'), "tool.backlit.conf must be a directory beside HERE/pyproject.toml, got"),
        (
            PYPROJECT.replace('["my_package"]', '"my_package"'),
            "tool.backlit.packages must be a list of packages, got 'my_package' in HERE/pyproject.toml: "
            '["my_package"]',
        ),
        (PYPROJECT.replace('"my_package"', ""), "tool.backlit.packages must be a list of packages, got [] in HERE/py"),
        (
            PYPROJECT.replace("my_package", "my.package"),
            "tool.backlit.packages must have names of packages, without do",
        ),
        (
            PYPROJECT.replace('"my_package"', "3"),
            "tool.backlit.packages must have names of packages, without dots, got",
        ),
    ],
)
def test_a_malformed_project_is_one_line_a_problem(text: str, expected: str, project: Path) -> None:
    Path("pyproject.toml").write_text(text)
    assert problem().startswith(expected)


def test_every_command_reports_it_and_starts_nothing(project: Path, call_command: CallCommand) -> None:
    Path("pyproject.toml").write_text("[tool.backlit]\nconf = 1\npackages = ['my_package']\n")
    for command in COMMANDS:
        ended = call_command(*command)
        assert ended.returncode == 2
        expected = f"error: tool.backlit.conf must be a directory beside {project}/pyproject.toml, got 1\n"
        assert ended.stderr == expected
    assert call_command("backlit-train", "--version").returncode == 0
    assert sorted(path.name for path in project.iterdir()) == ["conf", "pyproject.toml", "src"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("absent", "absent of HERE/pyproject.toml is not installed; if you trust it: pip install -e 'HERE'"),
        ("os", "tool.backlit.packages must be packages in HERE, got os, which is "),
        ("sys", "tool.backlit.packages must be packages in HERE, got sys, which is Python's own"),
        ("no_spec", "no_spec of HERE/pyproject.toml is not installed"),
        ("backlit", "tool.backlit.packages must be packages in HERE, got backlit, which is in "),
        ("numpy", "tool.backlit.packages must be packages in HERE, got numpy, which is in "),
        ("installed", "tool.backlit.packages must be packages in HERE, got installed, which is in "),
        ("linked", "tool.backlit.packages must be packages in HERE, got linked, which is in "),
    ],
)
def test_only_code_that_is_in_the_project_is_trusted(
    name: str, expected: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = project / ".venv" / "lib" / "site-packages"
    site.mkdir(parents=True)
    (site / "installed.py").touch()
    (project.parent / "linked.py").touch()
    (project / "src" / "linked.py").symlink_to(project.parent / "linked.py")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setitem(sys.modules, "no_spec", ModuleType("no_spec"))  # as __main__ often is
    Path("pyproject.toml").write_text(PYPROJECT.replace("my_package", name))
    assert problem().startswith(expected)


def test_a_module_and_a_package_without_init_are_in_the_project_too(project: Path) -> None:
    (project / "src" / "module_of_mine.py").touch()
    (project / "src" / "folder_of_mine").mkdir()
    Path("pyproject.toml").write_text(PYPROJECT.replace("my_package", 'module_of_mine", "folder_of_mine'))
    found = find_project()
    assert found is not None
    assert found.packages == ("module_of_mine", "folder_of_mine")


def test_the_project_of_an_archive_is_not_trusted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = project / "outputs" / "theirs"
    shutil.copytree(project / "conf", archive / "conf")
    (archive / "pyproject.toml").write_text(PYPROJECT)
    monkeypatch.chdir(archive)
    assert problem().startswith("tool.backlit.packages must be packages in HERE, got my_package, which is in ")


def test_a_strangers_run_below_a_project_may_name_its_packages_and_no_others(
    points_run: Path, project: Path, call_command: CallCommand
) -> None:
    config = points_run / ".hydra" / "config.yaml"
    text = config.read_text()
    for target in ("os.system", "my_package.torch.load", "torch.load"):
        config.write_text(text.replace("_target_: backlit.data.PointsDataModule", f"_target_: {target}"))
        ended = call_command("backlit-evaluate", f"run={points_run}")
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert f"wants {target}" in ended.stderr
    config.write_text(text.replace("_target_: backlit.data.PointsDataModule", "_target_: my_package.Renamed"))
    ended = call_command("backlit-evaluate", f"run={points_run}")
    expected = "error: data._target_ of the run's config cannot be imported: module 'my_package' has no attribute 'Rena"
    assert ended.stderr.startswith(expected)


def test_own_options_are_found_beside_backlits_and_what_is_typed_wins(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert compose_config("experiment=mine").model.channels == 3
    other = tmp_path / "other" / "model"
    other.mkdir(parents=True)
    (other / "my_cnn.yaml").write_text("_target_: my_package.MyCNN\nchannels: 5\n")
    (other / "more.yaml").write_text("_target_: my_package.Foreign\n")
    monkeypatch.setattr("sys.argv", ["backlit-train", "--config-dir", str(other.parent)])
    assert compose_config("experiment=mine").model.channels == 5
    assert option_names("model") == ["binary_mlp", "cnn", "foreign", "mlp", "more", "my_cnn"]
    # Another Hydra program has nothing of this.
    (other / "config.yaml").write_text("defaults: [model: mine]\n")
    (other / "model").mkdir()
    (other / "model" / "mine.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(other), version_base="1.3"):
        assert compose("config") == {"model": {"a": 1}}
        with pytest.raises(Exception, match="Could not find 'model/my_cnn'"):
            compose("config", ["model=my_cnn"])


def test_an_option_with_the_name_of_backlits_is_rejected(project: Path, call_command: CallCommand) -> None:
    (project / "conf" / "model" / "mlp.yaml").touch()
    ended = call_command("backlit-train", "experiment=mine")
    expected = f"error: {project}/conf/model/mlp.yaml: backlit has a file of this name, which would be read instead"
    assert ended.stderr.startswith(expected)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)


@pytest.mark.slow
def test_nothing_of_a_project_is_typed_again(project: Path, call_command: CallCommand) -> None:
    done = call_command("backlit-train", "experiment=mine")
    assert done.returncode == 0, done.stderr
    run = only_run("mine")
    assert "config-dir" not in json.dumps(read_record(run))
    (printed,) = [line.split(None, 1)[1] for line in done.stdout.splitlines() if line.startswith("  evaluate ")]
    assert printed == f"backlit-evaluate run={run}"
    for command in (
        printed,
        "backlit-export run=latest format=state_dict",
        "backlit-train resume=latest trainer.max_epochs=3",
        f"backlit-train rerun={run}",
    ):
        ended = call_command(*shlex.split(command))
        assert ended.returncode == 0, ended.stderr
    assert type(load_run().model).__name__ == "MyCNN"
    # Elsewhere all is as before.
    os.chdir(project.parent)
    ended = call_command("backlit-evaluate", f"run={project / run}")
    assert ended.stderr.endswith("if you trust that code: packages=[my_package]\n")


@pytest.mark.slow
def test_a_sweep_of_own_parts_is_resumed(project: Path, call_command: CallCommand) -> None:
    done = call_command("backlit-train", "-m", "experiment=mine", "model.channels=2,3", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(only_sweep("mine") / "1_model.channels_3")
    summary = call_command("backlit-report", str(only_sweep("mine"))).stdout
    printed = re.findall(r"backlit-(?:evaluate|train) .*", summary)
    assert [command.split()[0] for command in printed] == ["backlit-evaluate", "backlit-train", "backlit-train"]
    for command in printed:
        assert "packages" not in command
        ended = call_command(*shlex.split(command.partition("   #")[0]))
        assert ended.returncode == 0, ended.stderr
    assert len(list(only_sweep("mine").glob("*/run.json"))) == 2

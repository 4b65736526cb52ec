"""Which arguments of a recorded command are used again, and how typed ones change them."""

import pytest

from backlit.cli.recorded_arguments import is_plain_override, merge_arguments, repeatable_arguments
from backlit.errors import ConfigError


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.lr=0.1",
        "experiment=points",
        "callbacks=[default, early_stopping]",
        "+model.extra=1",
        "~scheduler",
        "task_name=my-task_2.1",
        "hydra.run.dir='outputs/a run'",
        "hydra/sweeper=search",
        "hydra.sweeper.sampler=gp",
        "hydra.sweeper.timeout=60",
        "hydra/launcher=slurm",
        "hydra.launcher.engine=slurm",
        "hydra.launcher.partition=gpu-a100",
        "hydra.launcher.gres=gpu:a100:2",
        "hydra.launcher.time=1-12:00:00",
        "hydra.launcher.wait=false",
        "data.data_dir=/data/mnist",
        "task_name=team/a",
        """task_name='ü = "a", [b] $c ~'""",
        "experiment=team/exp1",
        "experiment=team/a,team/b",
        r"tags=['it\'s', b\ c]",
    ],
)
def test_options_numbers_and_texts_are_plain(override: str) -> None:
    assert is_plain_override(override)


@pytest.mark.parametrize(
    "override",
    [
        "model=../evil",
        "model@hydra.callbacks=x",
        "optimizer.lr=${oc.env:HOME}",
        r"tags=$\{x\}",
        r"tags=['\${x}']",
        "optimizer.lr=choice(1,'${x}')",
        "experiment=a,../b",
        "data=/tmp/x",
        "tags=['a\nb']",
        "task_name=../x",
        "hydra.callbacks.x._target_=os.system",
        "hydra.run.dir=${evil}",
        "hydra/launcher=joblib",
        "hydra.launcher.partition='a b'",
        "hydra.launcher.account=../x",
        "hydra.launcher.options=[--exclusive]",
        "hydra.launcher.ray_address=far.away:6379",
        "hydra.sweeper.sampler=cmaes",
        "my/group=../x",
    ],
)
def test_what_hydra_would_read_resolve_or_instantiate_is_not_plain(override: str) -> None:
    assert not is_plain_override(override)


def test_an_unsafe_argument_is_used_if_it_is_typed_again() -> None:
    recorded = ["-m", "--config-dir", "my", "lr=1", "hydra/launcher=joblib", "packages=[mine]"]
    with pytest.raises(ConfigError, match="'--config-dir my' is what this run was started with"):
        repeatable_arguments(recorded, [], of_sweep=True)
    with pytest.raises(ConfigError, match="'hydra/launcher=joblib' is what this run was started with"):
        repeatable_arguments(recorded, ["--config-dir"], of_sweep=True)
    given = ["--config-dir", "my", "hydra/launcher=joblib"]
    # Trust in packages is never recorded.
    assert repeatable_arguments(recorded, given, of_sweep=True) == ["-m", "lr=1", "hydra/launcher=joblib"]


@pytest.mark.parametrize(
    "argument", ["-m", "--multirun", "hydra.mode=MULTIRUN", "++hydra.mode='multirun'", "sweep=optuna", "+sweep=lr"]
)
def test_the_arguments_of_a_run_make_no_sweep(argument: str) -> None:
    with pytest.raises(ConfigError, match="is what this run was started with, and makes a sweep; if you want one"):
        repeatable_arguments([argument, "seed=1"], [])
    assert argument in repeatable_arguments([argument, "seed=1"], [], of_sweep=True)
    assert repeatable_arguments(["hydra.mode=RUN"], []) == ["hydra.mode=RUN"]


def test_a_typed_argument_replaces_the_recorded_one_of_its_key() -> None:
    assert merge_arguments(["-m", "a=1", "+b=2", "c=3"], ["++a=5", "~b", "d=4"]) == ["-m", "++a=5", "c=3", "d=4"]
    assert merge_arguments(["a=1"], ["~a"]) == ["~a"]

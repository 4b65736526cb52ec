import pickle

from backlit.errors import ConfigError


def test_the_problems_of_a_config_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(ConfigError(["seed must be >= 0, got -1", "train must be bool, got 3"])))
    assert isinstance(error, ConfigError)
    assert str(error) == "seed must be >= 0, got -1\ntrain must be bool, got 3"

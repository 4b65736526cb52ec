"""Where Hydra finds the YAML files of the user's project; it imports this at every start: nothing heavy, either."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class BacklitProject(SearchPathPlugin):
    """Adds the directories of own options to those in which backlit's configs are composed, in Python too."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add what ``--config-dir`` names, then the ``conf`` of the project.

        Hydra itself adds ``--config-dir`` after all plugins; what is typed comes first here.
        """
        from backlit.cli.known_keys import config_directories
        from backlit.config.conf import CONFIG_DIR

        # Not to another program's; `hydra.main` has the directory without its scheme.
        if any(entry.path in (str(CONFIG_DIR), f"file://{CONFIG_DIR}") for entry in search_path.get_path()):
            for directory in config_directories()[1:]:
                search_path.append("own options", f"file://{directory}")

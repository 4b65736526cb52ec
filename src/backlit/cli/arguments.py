"""What is typed, read as it is meant: flags anywhere, paths as they are; what Hydra cannot read, with what to type."""

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from backlit.cli.known_keys import KnownKeys, option_names
from backlit.config.hints import nearest
from backlit.errors import ConfigError
from backlit.runs.commands import FLAGS_WITH_VALUE
from backlit.text import assignment, quote_value, shell_command, shell_word

_FLAGS = (
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc", "--info", "-i"),
)
_CHOICES = {"--cfg": ("job", "hydra", "all"), "-c": ("job", "hydra", "all")}
_INFO_CHOICES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# Keys whose value is a path: what exists under the name that was typed is meant, whatever its characters.
_PATH_KEYS = (
    "run",
    "input",
    "output",
    "output_dir",
    "ckpt_path",
    "init_from",
    "data.data_dir",
    "data.file",
    "data.test_file",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
# Keys of this command line alone; Hydra does not see them.
_PLANNED_KEYS = ("resume", "rerun")
# Groups without which there is no run; those of which several options may be combined.
_REQUIRED_GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger")
_SEVERAL = ("callbacks", "logger")
_COMMANDS = ("train", "evaluate", "predict", "export", "report")
_KEY = r"[+~]{0,2}[A-Za-z_][A-Za-z0-9_./@:-]*"
# What no other reading than as a text gives a meaning to.
_PLAIN_TEXT = re.compile(r"[^\[\]{}(),'\"=\\$]+")


def read_path(typed: str) -> str:
    """Return the path, or ``latest``, that the value of an argument names.

    It may be typed as it is, with Hydra's quotes, as printed commands have it, or with ``~``.
    """
    if typed == "latest" or Path(typed).exists():
        return typed
    try:
        value = OverridesParser.create().parse_override(f"path={typed}").value()
    except HydraException:
        value = typed
    path = re.sub(r"(\\+)\$\{", lambda match: match[1][: len(match[1]) // 2] + "${", str(value))
    path = path if isinstance(value, str) else typed
    return os.path.expanduser(path) if typed.startswith("~") else path


def read_arguments(arguments: Sequence[str], config_name: str) -> list[str]:
    """Return arguments as Hydra reads them: flags first, paths and texts in quotes where they need them.

    Args:
        arguments: Those that were typed.
        config_name: The config at the top, which is the command's name.

    Raises:
        ConfigError: If some cannot be read; it says of each what to type.
    """
    keys = KnownKeys(config_name)
    problems: list[str] = []
    flags, words = _read_flags(list(arguments), keys, problems)
    overrides: list[str] = []
    while words:
        count, problem = _find_split(words, keys)
        if problem is None:
            override = _as_hydra_reads(words[0], keys)
            problem = None if override else _explain(words[0], keys)
            overrides.append(override or "")
        if problem is not None:
            problems.append(problem)
        del words[:count]
    if problems:
        raise ConfigError(problems)
    return [*flags, *overrides]


def _read_flags(words: list[str], keys: KnownKeys, problems: list[str]) -> tuple[list[str], list[str]]:
    """Return flags with their values, and the other words; add a line for each unknown flag."""
    flags: list[str] = []
    others: list[str] = []
    while words:
        word = words.pop(0)
        name, separator, value = word.partition("=")
        if not word.startswith("-") or re.fullmatch(r"-[\d.].*", word):
            others.append(word)
        elif name in FLAGS_WITH_VALUE:
            flags.append(word)
            if not separator:
                if not words:
                    problems.append(f"{word} needs a value: {word} {_CHOICES.get(name, ('...',))[0]}")
                    continue
                flags.append(words.pop(0))
            chosen = value if separator else flags[-1]
            if name in _CHOICES and chosen not in _CHOICES[name]:
                problems.append(f"{name} must be one of {', '.join(_CHOICES[name])}, got {chosen}")
        elif word in _FLAGS:
            flags.append(word)
            if word in ("--info", "-i") and words and words[0] in _INFO_CHOICES:
                flags.append(words.pop(0))
        else:
            if not separator and words and not words[0].startswith("-") and "=" not in words[0]:
                value = words.pop(0)
            problems.append(_explain_flag(name, value, keys))
    return flags, others


def _explain_flag(flag: str, value: str, keys: KnownKeys) -> str:
    name = flag.lstrip("-")
    if not value and (close := nearest(flag, [one for one in _FLAGS if one.startswith("--")], cutoff=0.8)):
        return f"{flag}: no such flag, did you mean {close}?"
    typed = _assignments(name.replace("-", "_"), value, keys) if name else []
    example = f": {' or '.join(typed)}" if typed else ""
    return f"{flag}: no such flag; options are typed as key=value{example}"


def _assignments(key: str, value: str, keys: KnownKeys) -> list[str]:
    """Return ``key=value`` with each key that is meant, as words of a shell."""
    if not value and (options := [f"{group}={key}" for group in keys.groups if key in option_names(group)]):
        return options  # an option alone
    meant = [key] if key in (*keys.groups, *_PLANNED_KEYS) else keys.meant_by(key)
    return [shell_word(f"{one}={_readable(one, value, keys) or '...'}") for one in meant]


def _find_split(words: Sequence[str], keys: KnownKeys) -> tuple[int, str | None]:
    """Return the number of words that a shell has split an argument into, and what to type; None for a whole one."""
    for count in range(2, min(len(words), 12) + 1):
        first, joined = words[0], " ".join(words[:count])
        match = re.fullmatch(rf"({_KEY})\s*=\s*(\S.*)", joined, re.DOTALL)
        if any(re.match(rf"{_KEY}=.", word) for word in words[1:count]):
            break
        if match is None:
            continue
        key, value = match.groups()
        is_path = key in (*_PATH_KEYS, *_PLANNED_KEYS) and Path(value).exists()
        if _parse(first) and not (first.endswith("=") or is_path):
            continue
        if _parse(f"{key}={value}") is None:
            continue
        typed = [shell_word(f"{key}={value}")] if is_path else _assignments(key, value, keys)
        typed = typed or [shell_word(f"{key}={value}")]
        rule = "without blanks" if " " not in value else "in quotes, since it has blanks"
        return count, f"{joined}: an argument is typed {rule}: {' or '.join(typed)}"
    files = list(itertools.takewhile(lambda word: "=" not in word and Path(word).is_file(), words))
    if keys.config_name == "predict" and len(files) > 1:
        pattern = Path(files[0]).parent / f"*{Path(files[0]).suffix}"
        typed = [f"input=[{files[0]},{files[1]}]", f"input={pattern}"]
        return len(files), f"{files[0]} ...: files are typed as {' or '.join(map(shell_word, typed))}"
    is_pair = len(words) > 1 and re.fullmatch(_KEY, words[0]) and re.fullmatch(r"-?[\w.]+", words[1])
    if is_pair and (words[0] in keys.groups or keys.meant_by(words[0])):
        typed = _assignments(words[0], words[1], keys)
        return 2, f"{words[0]} {words[1]}: an argument is typed as key=value: {' or '.join(typed)}"
    return 1, None


def _parse(word: str) -> Override | None:
    if "=" not in word and not word.startswith("~"):
        return None
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _as_hydra_reads(word: str, keys: KnownKeys) -> str | None:
    """Return an argument with its value in quotes, if it needs them and can only be a text; None if it is unclear."""
    key, separator, value = word.partition("=")
    is_train = keys.config_name == "train"
    if separator and key in (*_PLANNED_KEYS, "run") and (not value or is_train == (key == "run")):
        return None
    if separator and key in _PLANNED_KEYS:
        return word
    if key.lstrip("~") in _REQUIRED_GROUPS and is_train and key.startswith("~") and not value:
        return None
    if key in keys.groups and re.fullmatch(r"[\w/-]+\.ya?ml", value):
        return word.rpartition(".")[0]
    if key in keys.groups and value.startswith("[") and key not in _SEVERAL:
        return None
    if separator and key.lstrip("+") in _PATH_KEYS and value != "latest":
        if Path(value).exists():
            return assignment(key, value)
        if value.startswith("~") or (_parse(word) is None and not value.startswith(("[", "{"))):
            return assignment(key, read_path(value))
    if _parse(word) is not None:
        return word if re.fullmatch(rf"{_KEY}(=.*)?", word, re.DOTALL) else None
    if separator and re.fullmatch(_KEY, key) and _PLAIN_TEXT.fullmatch(value):
        quoted = f"{key}={quote_value(value)}"
        return quoted if _parse(quoted) else None
    return None


def _readable(key: str, value: str, keys: KnownKeys) -> str:
    """Return a value that Hydra can read: as it is, with its elements in quotes, or in quotes as a whole."""
    if keys.is_list(key) and re.search(r"[\d\w][\s,]", value) and not re.search("['\"{]", value):
        elements = re.findall(r"[^\s,()\[\]]+", value)
        value = f"[{','.join(elements)}]"
    if _parse(f"key={value.strip(' ,=')}"):
        value = value.strip(" ,=")
    if _parse(f"key={value}") or not value:
        return value
    if value[0] == "[" and value[-1] == "]":
        elements = [element.strip() for element in value[1:-1].split(",")]
        listed = ",".join(e if _parse(f"key={e}") else quote_value(e) for e in elements)
        if _parse(f"key=[{listed}]"):
            return f"[{listed}]"
    return quote_value(value)


def _explain(word: str, keys: KnownKeys) -> str:
    """Return a line for an argument that cannot be read."""
    key, separator, value = word.partition("=")
    if not separator and not (word.startswith("~") and _parse(word)):
        return _explain_bare(word, keys)
    if key in (*_PLANNED_KEYS, "run"):
        named = _PLANNED_KEYS if keys.config_name == "train" else ("run",)
        typed = [shell_word(f"{name}={value or 'latest'}") for name in named if key not in named or key == name]
        what = "needs a directory or latest" if key in named else f"is no key of backlit-{keys.config_name}"
        return f"{word}: {key} {what}: {' or '.join(typed)}"
    if key.lstrip("~") in keys.groups and _parse(word):
        group = key.lstrip("~")
        return f"{word}: a run needs one {group}: {', '.join(f'{group}={name}' for name in option_names(group))}"
    if not re.fullmatch(_KEY, key):
        return f"{word}: a key has letters, digits, _ and dots, got {key or 'none'}"
    if _parse(f"{key}=1") is None and (typed := _assignments(key, value, keys)):
        return f"{word}: no such key; type {' or '.join(typed)}"
    if key in keys.groups:
        return f"{word}: {key} must be one of its options: {', '.join(option_names(key))}"
    for opening, closing in ("[]", "{}", "()"):
        if value.count(opening) != value.count(closing):
            few, many = sorted((opening, closing), key=value.count)
            whole = value.rstrip(", ") + few if few == closing else few + value
            hint = f": {shell_word(f'{key}={whole}')}" if value[0] in "[{(" and _parse(f"{key}={whole}") else ""
            text = shell_word(f"{key}={quote_value(value)}")
            return f"{word}: there is a {many} without its {few}{hint or f'; as a text: {text}'}"
    quoted = shell_word(f"{key}={_readable(key, value, keys)}")
    return f"{word}: the value has characters that mean something else; type {quoted}"


def _explain_bare(word: str, keys: KnownKeys) -> str:
    """Return a line for an argument without ``=``: what it may mean."""
    command, path = f"backlit-{keys.config_name}", Path(word)
    if word in ("help", "version"):
        return f"{word}: type {command} --{word}"
    if word in _COMMANDS:
        return f"{word}: type backlit-{word}" + ("" if word == keys.config_name else f" instead of {command}")
    if (path.exists() or word == "latest" or "/" in word) and (typed := _path_arguments(word, keys.config_name)):
        return f"{word}: an argument is typed as key=value: {' or '.join(typed)}"
    if word in (*_PLANNED_KEYS, "run"):
        return f"{word} needs a value: {command} {word}=latest"
    if word in keys.groups:
        return f"{word} needs one of its options: {', '.join(f'{word}={name}' for name in option_names(word))}"
    if typed := _assignments(word, "", keys):
        what = " needs a value" if word in keys.names else ": an argument is typed as key=value"
        return f"{word}{what}: {' or '.join(typed)}"
    if keys.config_name == "predict":
        return f"{word}: an argument is typed as key=value: {shell_word(assignment('input', word))}"
    return f"{word}: an argument is typed as key=value{keys.hint(word)}"


def _path_arguments(word: str, config_name: str) -> list[str]:
    """Return the arguments that a path alone may mean."""
    path = Path(word)
    if config_name == "train":
        if path.suffix in (".yaml", ".yml"):
            return [f"experiment={path.stem}"]
        if (path / "sweep.json").exists():
            return [shell_command("-m", assignment("resume", word))]
        if path.suffix == ".ckpt":
            return [shell_word(assignment("ckpt_path", word))]
        return [shell_word(assignment(key, word)) for key in ("resume", "rerun")]
    is_input = config_name == "predict" and word != "latest"
    is_run = path.suffix == ".ckpt" or (path / "run.json").exists() or (path / ".hydra").exists()
    return [shell_word(assignment("input" if is_input and not is_run else "run", word))]

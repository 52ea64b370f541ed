"""What a person wrote for the emulator: YAML, or JSON, which is YAML too."""

from pathlib import Path

import yaml

from agentloop.errors import ConfigError


def data_of(path: Path | str, source: str) -> object:
    """The data in a file. Raises ConfigError, naming the source, such as `playbook shop.yaml`."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{source} cannot be read: {e}") from e
    except yaml.YAMLError as e:
        raise ConfigError(f"{source} is not YAML: {e}") from e

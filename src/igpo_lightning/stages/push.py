"""Upload an exported model to the Hugging Face hub."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from igpo_lightning.errors import ConfigError, RunError, first_line


def require_token(repository: str) -> None:
    """Fail before anything is loaded where nobody is logged in.

    Raises:
        ConfigError: There is no token.
    """
    if huggingface_hub.get_token() is None:
        raise ConfigError(
            f"stage.hub={repository}: nobody is logged in to the hub; run `hf auth login`, or set "
            "HF_TOKEN to a token that may write"
        )


def push(folder: Path, repository: str, private: bool = True) -> str:
    """Create the repository if there is none, and upload the folder; returns its address.

    Args:
        private: Whether a new repository is private; one that exists stays as it is.

    Raises:
        RunError: The hub refused, or cannot be reached.
    """
    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload an exported model"
        )
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise RunError(
            f"stage.hub={repository}: cannot upload {folder}: {first_line(error)}. The export "
            "itself is complete; run the same command again to upload it"
        ) from error
    return str(address)

"""Ray's records of the progress of a training or search, kept beside checkpoints, as a kill may leave them.

Ray writes them in place: on a disk, one may be half written. Of a search that has just begun, some may be missing.
"""

import glob
import json
import logging
import pickletools
from pathlib import Path

from cubeprep.storage import filesystem, is_remote

logger = logging.getLogger(__name__)

PICKLE = b"\x80"
# Files without which Ray does not resume a search; all but the first hold the time of the command's start.
OF_SEARCH = ("tuner.pkl", "experiment_state-*.json", "search_gen_state-*.json", "searcher-state-*.pkl")


def remove_half_written(storage: str, name: str) -> None:
    """Removes records of a run that end too early; Ray would refuse to resume from them.

    Args:
        storage: of checkpoints; objects on a service are always whole.
        name: of the run.
    """
    if is_remote(storage):
        return
    folder = Path(storage) / name
    for path in [*folder.glob("*.json"), *folder.glob("*.pkl")]:
        if not _is_whole(path):
            logger.warning("%s is half written, by a command that was killed: removed", path)
            path.unlink()


def can_resume_search(storage: str, name: str) -> bool:
    """Whether all records of a search are there; if not, it was killed before it had any result.

    Raises:
        OSError: the storage does not answer.
    """
    fs, root = filesystem(f"{storage}/{name}")
    return all(fs.glob(f"{glob.escape(root)}/{pattern}") for pattern in OF_SEARCH)


def _is_whole(path: Path) -> bool:
    content = path.read_bytes()
    try:
        if content.startswith(PICKLE):  # some files are pickles, though named .json
            for _ in pickletools.genops(content):  # parses it, and executes nothing
                pass
        else:
            json.loads(content)
    except ValueError:
        return False
    return True

"""Version of the installed package."""

from importlib.metadata import PackageNotFoundError, version


def code_version() -> str:
    """The version of the installed package."""
    try:
        return version("cubescout")
    except PackageNotFoundError:
        return "unknown"

"""Version of the installed package."""

from importlib.metadata import PackageNotFoundError, version


def code_version() -> str:
    """Version of the installed package; `unknown` if it is not installed."""
    try:
        return version("cubescout")
    except PackageNotFoundError:
        return "unknown"

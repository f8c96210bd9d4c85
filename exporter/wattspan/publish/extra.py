"""What to say when the packages that only the daemon needs are not installed."""

from wattspan.errors import SetupError


def missing(package: str, purpose: str) -> SetupError:
    """The error that names the extra.

    Args:
        package: the distribution that could not be imported.
        purpose: what needs it, as the beginning of a sentence.
    """
    return SetupError(f"{purpose} needs the package {package}: pip install 'wattspan[daemon]'")

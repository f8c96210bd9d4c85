"""cli: arguments in, a frozen Config or an answer out."""


def main() -> int:
    """Run the command line; returns the exit code."""
    raise NotImplementedError

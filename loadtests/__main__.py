"""`python -m loadtests`."""

from loadtests.cli import app
from loadtests.processes import unwind_on_sigterm

if __name__ == "__main__":
    unwind_on_sigterm()
    app()

"""JUnit XML for pipelines."""

from loadtests.analysis.result import Result
from loadtests.report.templates import render


def junit(result: Result) -> str:
    """A test case for the requests, one for the objectives, and one for each validity check."""
    return render("junit.xml", result=result)

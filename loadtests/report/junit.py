"""JUnit XML, which every pipeline shows."""

from xml.etree import ElementTree

from loadtests.analysis.result import Result


def junit(result: Result) -> str:
    """A test case for the requests, one for the objectives, and one for each validity check."""
    verdict = result.verdict
    cases = [("requests", verdict.status == "failures", verdict.reasons)]
    if result.objectives is not None:
        missed = verdict.status == "slo missed"
        cases.append((f"slo {result.objectives.name}", missed, verdict.reasons))
    suite = ElementTree.Element(
        "testsuite",
        name=f"loadtests.{result.scenario['name']}",
        timestamp=result.started_at,
        time=f"{result.overall.window_s:.3f}",
    )
    failures = skipped = 0
    for name, failed, reasons in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="loadtests", name=name)
        if failed:
            failures += 1
            ElementTree.SubElement(case, "failure", message="; ".join(reasons))
    for check in result.validity:
        case = ElementTree.SubElement(
            suite, "testcase", classname="loadtests.validity", name=check.name
        )
        if check.passed is None:
            skipped += 1
            ElementTree.SubElement(case, "skipped", message=check.message)
        elif not check.passed:
            failures += 1
            ElementTree.SubElement(case, "failure", message=check.message)
    count = len(cases) + len(result.validity)
    suite.set("tests", str(count))
    suite.set("failures", str(failures))
    suite.set("skipped", str(skipped))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"

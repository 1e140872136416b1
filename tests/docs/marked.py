"""Pages of which a part is generated."""


def replaced(page: str, begin: str, end: str, generated: str) -> str:
    """The page with this text between its markers; ValueError without them."""
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no {begin} ... {end}")
    return f"{before}{begin}\n{generated}\n{end}{after}"

"""The label set of a run, as the manifest will have it, known before training."""

from collections.abc import Sequence

from pydantic import ValidationError

from service.adapters.manifest import INPUT, LabelSet
from service.classification.frame import spell
from service.common.error_messages import problems
from service.errors import ConfigurationError
from training.config import FinetuneSettings
from training.lines import Line, label_names


def classification_task(settings: FinetuneSettings, lines: Sequence[Line]) -> LabelSet | None:
    """The labels and their words, or None for a run that does not classify.

    Without `labels` they are those of the lines, in alphabetical order, each spelled as a word
    after the template; a head has no template, and its labels are their own words. Raises
    ConfigurationError for lines of fewer than two labels (of an adapter with multi_label: of none),
    which teach nothing, and for labels that are invalid in a manifest.
    """
    if settings.task != "classification":
        return None
    found = label_names(lines)
    least = 1 if settings.multi_label and settings.head is None else 2
    if len(found) < least:
        raise ConfigurationError(
            f"data: the lines have {len(found)} labels ({', '.join(found) or 'none'}); a "
            f"classifier needs at least {least}"
        )
    words = settings.labels or {name: _spelled(name, settings) for name in found}
    try:
        return LabelSet(labels=words, multi_label=settings.multi_label)
    except ValidationError as error:
        problem = next(problems(error.errors(include_url=False)))
        raise ConfigurationError(f"labels: {problem.reason}") from error


def _spelled(name: str, settings: FinetuneSettings) -> str:
    if settings.prompt is None:
        return name
    return spell(name, settings.prompt.template.split(INPUT)[1])

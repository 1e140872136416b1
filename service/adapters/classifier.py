"""Classification by an adapter: its own template, labels and calibration.

Serving and training share this one definition of its prompts.
"""

from collections.abc import Sequence

import numpy as np

from service.adapters.formats import AdapterRefused
from service.adapters.manifest import (
    INPUT,
    MANIFEST_FILE,
    ClassificationManifest,
    LabelSet,
    PromptTemplate,
)
from service.classification.calibration import Array, Calibration
from service.classification.classifier import Asked, Classifier
from service.classification.scorer import LabelScorer
from service.engine.contract import Adapter
from service.engine.pooling import ConformalSets
from service.engine.texts import LabelEngine, Vocabulary
from service.errors import InvalidRequest

YES_NO = (("yes", " yes"), ("no", " no"))
"""Words with which a multi_label adapter answers for each label."""


class AdapterFrame:
    """The prompts and label tries of an adapter's template and labels.

    Without `multi_label` there is one question: the labels' words are scored right after the
    template. With it there is a question for each label, in the labels' order: the template, the
    label's words and a question mark, after which " yes" and " no" are scored.

    The template may hold special tokens of the model; in an input, text that looks like one stays
    text. Raises InvalidRequest for labels that cannot be scored after the template.
    """

    def __init__(self, vocabulary: Vocabulary, template: PromptTemplate, task: LabelSet) -> None:
        self._vocabulary = vocabulary
        self._prefix, suffix = template.template.split(INPUT)
        asked = [f"{words}?" for words in task.labels.values()] if task.multi_label else [""]
        words = YES_NO if task.multi_label else tuple(task.labels.items())
        self.questions: Sequence[Asked] = [
            Asked(suffix + ask, self._scorer(suffix + ask, words)) for ask in asked
        ]

    def prompt(self, text: str, question: Asked) -> list[int]:
        """The prompt that ends where the question's labels are scored."""
        encode, encode_template = self._vocabulary.encode, self._vocabulary.encode_template
        start = self._vocabulary.start_token_ids
        if encode(text) == encode_template(text):
            # Tokenised as one text, because tokens may merge across the template's edges.
            return [*start, *encode_template(f"{self._prefix}{text}{question.after}")]
        before = [*start, *encode_template(self._prefix)]
        return [*before, *encode(text), *encode_template(question.after)]

    def _scorer(self, tail: str, words: Sequence[tuple[str, str]]) -> LabelScorer:
        vocabulary = self._vocabulary
        return LabelScorer(vocabulary.encode_template, tail, words, vocabulary.end_token_ids)


def build_classifier(
    engine: LabelEngine, adapter: Adapter | None, manifest: ClassificationManifest
) -> Classifier:
    """The classifier with a manifest's prompt and labels; without an adapter it asks the base.

    Raises AdapterRefused for labels that cannot be scored after the template.
    """
    task = manifest.classification
    try:
        frame = AdapterFrame(engine, manifest.prompt, task)
    except InvalidRequest as error:
        expected = "labels that can be read after the template"
        raise AdapterRefused(
            manifest.name, MANIFEST_FILE, "classification", expected, error.message
        ) from error
    calibration, conformal = task.calibration, task.calibration.conformal
    return Classifier(
        engine,
        frame,
        tuple(task.labels),
        task.multi_label,
        adapter,
        Calibration(calibration.temperature, _log_prior(calibration.prior, task.multi_label)),
        None if conformal is None else ConformalSets.fitted(conformal.coverage, conformal.least),
        None if manifest.guard is None else manifest.guard.of_labels,
        manifest.reference,
    )


def _log_prior(prior: Sequence[float] | None, multi_label: bool) -> Array | None:
    if prior is None:
        return None
    yes = np.array(prior)
    if not multi_label:
        log_prior: Array = np.log(yes)
        return log_prior
    # With a prior of 1 the probability of "no" would be divided by zero.
    columns: Array = np.log(np.stack([yes, np.maximum(1 - yes, 1e-6)], axis=1))
    return columns

"""Training examples of a head: a line's tokens as the served encoder reads them, and its labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from service.adapters.manifest import LabelSet
from service.engine.passage_reader import PassageReader
from service.errors import ConfigurationError
from service.models.encoder import check_base_of_head
from training.config import FinetuneSettings
from training.example import Example
from training.lines import LabelledLine, Line, MultiLabelledLine

SENTENCE_FILE = "sentence_bert_config.json"
"""File of sentence-transformers from which vLLM takes the longest text and lower case."""


class HeadEncoder:
    """Makes examples with the reader that serving uses; implements `length.LineEncoder`."""

    def __init__(self, settings: FinetuneSettings, task: LabelSet) -> None:
        """Raise ConfigurationError for a base that cannot be trained with a head.

        Also for `data.max_tokens` above the number of tokens that the encoder reads.
        """
        base, limit = settings.base.path, settings.data.max_tokens
        check_base_of_head(base)
        stated = _sentence_config(base)
        try:
            tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
            lower = bool(stated.get("do_lower_case"))
            self._reader = PassageReader(tokenizer, limit, lower=lower)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"base.path: no tokenizer in {base}: {error}") from error
        most = min(stated.get("max_seq_length") or limit, tokenizer.model_max_length)
        if limit > most:
            raise ConfigurationError(
                f"data.max_tokens: {limit} is more than the {most} tokens that the encoder reads"
            )
        self._tokenizer = tokenizer
        self._places = {name: place for place, name in enumerate(task.labels)}

    def encode(self, lines: Sequence[Line]) -> list[Example]:
        return [self._example(line) for line in lines]

    def tokens(self, line: Line) -> int:
        return len(self._example(line).token_ids)

    def asked_tokens(self, line: Line) -> int:
        return self.tokens(line)

    def without_end(self, text: str, tokens: int) -> str:
        offsets = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        kept = offsets["offset_mapping"][:-tokens]
        return text[: kept[-1][1]] if kept else ""

    def _example(self, line: Line) -> Example:
        assert isinstance(line, LabelledLine | MultiLabelledLine)
        return Example(
            tuple(self._reader.read(line.text).token_ids),
            labels=tuple(self._places[name] for name in line.labelled),
            label="+".join(line.labelled),
        )


def _sentence_config(folder: Path) -> dict[str, Any]:
    file = folder / SENTENCE_FILE
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"base.path: {SENTENCE_FILE}: not JSON: {error}") from error
    return found if isinstance(found, dict) else {}

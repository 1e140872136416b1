"""The base's tokeniser without an engine."""

from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer

from service.engine.chat_texts import ChatText, ChatTexts
from service.engine.protocol import Message
from service.engine.text_encoder import text_encoder
from service.errors import ConfigurationError
from service.settings.tree import ModelSettings


class BaseTokeniser:
    """Writes the tokens that the engine would; implements `engine.protocol.Vocabulary`."""

    def __init__(self, base: ModelSettings) -> None:
        folder = base.path
        self._chat = {**base.chat_template_kwargs, "add_generation_prompt": True}
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"base.path: no tokenizer in {folder}: {error}") from error
        self._apply = self._tokenizer.apply_chat_template
        if base.special_tokens_in_messages == "text":
            self._apply = ChatTexts(self._tokenizer, base.chat_template_kwargs).apply
        self.encode = text_encoder(self._tokenizer, special_is_text=True)
        self.encode_template = text_encoder(self._tokenizer, special_is_text=False)
        self.start_token_ids = tuple(self._tokenizer.encode(""))
        end: int | None = self._tokenizer.eos_token_id
        if end is None:
            raise ConfigurationError(f"base.path: the tokenizer in {folder} has no end token")
        self.end_token_ids = (end,)

    @property
    def end_token_id(self) -> int:
        """The token that ends an answer."""
        return self.end_token_ids[0]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """A conversation in the base's chat template, ready for the answer."""
        conversation = [{"role": each.role, "content": each.content} for each in messages]
        text: str = self._apply(conversation, **{**self._chat, "tokenize": False})
        return text.ids(False) if isinstance(text, ChatText) else self.encode_template(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids."""
        text: str = self._tokenizer.decode(list(token_ids))
        return text

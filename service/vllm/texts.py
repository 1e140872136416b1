"""The tokeniser and chat template of vLLM's model."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vllm.renderers import ChatParams
from vllm.renderers.params import TokenizeParams

from service.common.error_messages import quote
from service.engine.texts import ChatFrame, Message, Reading
from service.errors import InvalidRequest
from service.models.tokenizer import ChatTexts, TextEncoder, text_decoder, text_encoder
from service.settings.tree import Settings
from service.vllm.argument_checks import by_vllms_names
from service.vllm.conversion import explained
from service.vllm.patches.prompt_tokens import PromptTokens
from service.vllm.tool_parsers import chat_template

USES = ("reads vllm.renderers.base:BaseRenderer.get_tokenizer, render_chat, render_cmpl",)

_log = logging.getLogger(__name__)

_PLACEHOLDER = "\N{OBJECT REPLACEMENT CHARACTER}"


class VllmTexts:
    """Reads texts and prompts as vLLM's renderer does; implements `engine.contract.Texts`."""

    def __init__(self, llm: Any, settings: Settings) -> None:
        self._renderer = llm.renderer
        tokenizer = llm.renderer.get_tokenizer()
        prompts = PromptTokens.serve(llm.renderer)
        self.encode = _encoder_of_texts(tokenizer, settings, readable=prompts is not None)
        self.encode_template: TextEncoder = (
            prompts.encode if prompts else text_encoder(tokenizer, special_is_text=False)
        )
        self._text = text_decoder(tokenizer)
        variables = settings.base.chat_template_kwargs
        self.chat_frame = _chat_frame(tokenizer, variables)
        options = {**variables, "add_generation_prompt": True, "tokenize": False}
        self._chat = ChatParams(chat_template_kwargs=options)
        self.start_token_ids: tuple[int, ...] = tuple(tokenizer.encode(""))
        # vLLM's grammars end an answer with the end token of the tokenizer only.
        end: int | None = tokenizer.eos_token_id
        self.end_token_ids = () if end is None else (end,)
        self._longest: int = llm.model_config.max_model_len
        self._vocab_size: int = llm.model_config.get_vocab_size()

    def render(self, prompt: str | Sequence[int], reading: Reading) -> list[int]:
        """Token ids of a plain prompt; InvalidRequest for ids that the model does not have."""
        asked: Any = (
            {"prompt": prompt} if isinstance(prompt, str) else {"prompt_token_ids": list(prompt)}
        )
        params = TokenizeParams(
            max_total_tokens=self._longest,
            truncate_prompt_tokens=reading.truncate,
            truncation_side=reading.truncation_side,
            add_special_tokens=reading.add_special_tokens,
            max_total_tokens_param="max_model_len",
            max_output_tokens_param="max_tokens",
        )
        with explained():
            (rendered,) = self._renderer.render_cmpl([asked], params)
        token_ids: list[int] = rendered["prompt_token_ids"]
        return token_ids

    def render_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, ready for the assistant's answer."""
        conversation = [{"role": m.role, "content": m.content} for m in messages]
        with explained():
            _, (rendered,) = self._renderer.render_chat([conversation], self._chat)
        token_ids: list[int] = rendered["prompt_token_ids"]
        return token_ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included; InvalidRequest for an unknown id."""
        for token_id in token_ids:
            if not 0 <= token_id < self._vocab_size:
                raise InvalidRequest(
                    f"tokens: ids are 0..{self._vocab_size - 1}, got {quote(token_id)}",
                    param="tokens",
                )
        return self._text(token_ids)


def _encoder_of_texts(tokenizer: Any, settings: Settings, *, readable: bool) -> TextEncoder:
    """A text encoder without special tokens; also makes chats read special tokens as text.

    Without `readable` prompts are tokenised by vLLM, so chats that spell a special token are
    refused.
    """
    if settings.base.special_tokens_in_messages == "template":
        return text_encoder(tokenizer, special_is_text=True)
    given = by_vllms_names(settings.engine).get("chat_template")
    template = chat_template(settings.base.path, given)
    variables = settings.base.chat_template_kwargs
    chats = ChatTexts(tokenizer, variables, [template], readable=readable)
    tokenizer.apply_chat_template = chats.apply
    if chats.readable:
        return chats.encode
    _log.warning(
        "model.special_tokens_in_messages: this model's tokenizer cannot read special tokens as "
        "text; chats whose texts spell one are refused"
    )
    return text_encoder(tokenizer, special_is_text=True)


def _chat_frame(tokenizer: Any, variables: Mapping[str, Any]) -> ChatFrame:
    if getattr(tokenizer, "chat_template", None) is None:
        return ChatFrame(before=tokenizer.decode(tokenizer.encode("")), after="")
    conversation = [{"role": "user", "content": _PLACEHOLDER}]
    rendered: str = tokenizer.apply_chat_template(
        conversation, **{**variables, "tokenize": False, "add_generation_prompt": True}
    )
    before, _, after = rendered.partition(_PLACEHOLDER)
    return ChatFrame(before, after)

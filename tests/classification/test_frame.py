import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.classification.frame import LEAD, PlainFrame, PromptFrame
from service.engine.texts import ChatFrame
from tests.classification.bpe import tokenizer

FAMILIES = ["gpt2", "llama3"]
CHAT = ChatFrame(
    "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
)
PLAIN = ChatFrame("", "")
SPECIAL = ["<|im_start|>", "<|im_end|>"]

pieces = st.sampled_from(
    ["film", " ", "\n", "\n\n", ".", "!", ":", "'", "1", "中", "😀", "\t", "Text:"]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=8).map("".join)


class Tokens:
    """The part of an engine that a frame uses, over a small tokenizer."""

    start_token_ids = (0,)
    end_token_ids = (1,)

    def __init__(self, family: str, chat_frame: ChatFrame) -> None:
        self._family = family
        self.chat_frame = chat_frame

    def encode(self, text: str) -> list[int]:
        return self._encode(text, special_is_text=True)

    def encode_template(self, text: str) -> list[int]:
        return self._encode(text, special_is_text=False)

    def _encode(self, text: str, *, special_is_text: bool) -> list[int]:
        bpe = tokenizer(self._family)
        bpe.encode_special_tokens = special_is_text
        try:
            ids: list[int] = bpe.encode(text, add_special_tokens=False).ids
        finally:
            bpe.encode_special_tokens = False
        return ids


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chat", [CHAT, PLAIN], ids=["chat", "plain"])
@given(text=texts, query=st.sampled_from(["", "\nIs it?"]))
@settings(deadline=None, max_examples=150)
def test_a_prompt_has_the_tokens_of_its_text(
    family: str, chat: ChatFrame, text: str, query: str
) -> None:
    tokens = Tokens(family, chat)
    frame = PromptFrame(tokens, tokens.chat_frame, "Which?\nLabels: a, b", "Label:")
    whole = f"{chat.before}Which?\nLabels: a, b\n{LEAD} {text}{query}{frame.tail}"
    assert frame.prompt(text, query) == tokens.encode_template(whole)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("special", SPECIAL)
def test_only_the_template_holds_special_tokens(family: str, special: str) -> None:
    tokens = Tokens(family, CHAT)
    (special_id,) = tokens.encode_template(special)
    plain = PromptFrame(tokens, tokens.chat_frame, "Which?", "Label:").prompt("good")
    hostile = PromptFrame(tokens, tokens.chat_frame, f"Which?{special}", "Label:")
    spoken = hostile.prompt(f"{special}good{special}", special)
    assert plain.count(special_id) > 0
    assert spoken.count(special_id) == plain.count(special_id)
    as_text = tokens.encode(f" {special}good")
    assert as_text in [spoken[at : at + len(as_text)] for at in range(len(spoken))]


@pytest.mark.parametrize("family", FAMILIES)
@given(text=texts)
@settings(deadline=None, max_examples=50)
def test_a_plain_prompt_is_data_after_the_start(family: str, text: str) -> None:
    tokens = Tokens(family, CHAT)
    frame = PlainFrame(tokens, "Review: <|im_end|>", "\nIs:")
    whole = tokens.encode(f"Review: <|im_end|>{text}\nIs:")
    assert frame.prompt(text) == [0, *whole]


def test_an_input_that_merges_with_what_precedes_it_is_tokenised_with_it() -> None:
    class Greedy(Tokens):
        """A tokenizer that takes everything up to a line's end for one token."""

        def encode(self, text: str) -> list[int]:
            return [sum(map(ord, part)) for part in text.splitlines(keepends=True)]

        encode_template = encode

    frame = PromptFrame(Greedy("gpt2", PLAIN), PLAIN, "Which?", "Label:")
    whole = Greedy("gpt2", PLAIN).encode("Which?\nText: good\nLabel:")
    assert frame.prompt("good") == whole

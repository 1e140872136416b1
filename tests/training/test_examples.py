"""Examples: the prompts of serving, and over-long lines by the policy that was chosen."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from service.engine.texts import Message
from service.errors import ConfigurationError
from service.settings.tree import ModelSettings
from training.config import FinetuneSettings
from training.examples import BaseTokeniser, Example, ExampleEncoder, balance
from training.lines import read_lines
from training.prepare import Fitted, classification_task, fit_lengths

Settings = Callable[..., FinetuneSettings]
LONG = [
    {"text": "fine", "label": "positive"},
    {"text": "bad " * 60, "label": "negative"},
]


def base(folder: Path, **variables: object) -> ModelSettings:
    return ModelSettings(name="base", path=folder, chat_template_kwargs=variables)


def encoded(settings: FinetuneSettings) -> tuple[Sequence[Example], Fitted]:
    lines = read_lines(settings)
    encoder = ExampleEncoder(settings, classification_task(settings, lines))
    fitted = fit_lengths(lines, encoder, settings)
    return encoder.encode(fitted.lines), fitted


def encode(settings: FinetuneSettings) -> Sequence[Example]:
    return encoded(settings)[0]


def test_a_label_is_learnt_after_the_prompt_of_serving(
    settings: Settings, base_folder: Path
) -> None:
    tokeniser = BaseTokeniser(base(base_folder))
    (example, _) = encode(
        settings([{"text": "a film", "label": "good"}, {"text": "x", "label": "bad"}])
    )
    prompt = [*tokeniser.start_token_ids, *tokeniser.encode("Review: a film\nSentiment:")]
    choice = example.choices[0]
    assert list(example.token_ids[: choice.position + 1]) == prompt
    said = choice.branch.alternatives[choice.chosen].token_ids
    assert tokeniser.decode(said).startswith(" g")


def test_only_tokens_that_decide_are_part_of_it(settings: Settings) -> None:
    lines = [{"text": "x", "label": label} for label in ("turn_on", "turn_off", "stop")]
    examples = encode(settings(lines))
    stop = next(each for each in examples if each.label == "stop")
    on = next(each for each in examples if each.label == "turn_on")
    assert len(stop.choices) == 1
    assert len(on.choices) == 2
    assert len(on.token_ids) > len(stop.token_ids)
    assert all(choice.position < len(on.token_ids) for choice in on.choices)


def test_several_labels_are_asked_one_by_one(settings: Settings, base_folder: Path) -> None:
    lines = [
        {"text": "x", "labels": ["a"]},
        {"text": "y", "labels": []},
        {"text": "z", "labels": ["b"]},
    ]
    template = {"template": "Text: {input}\nIs it about"}
    examples = encode(settings(lines, multi_label=True, prompt=template))
    assert [each.label for each in examples] == [
        "a: yes",
        "b: no",
        "a: no",
        "b: no",
        "a: no",
        "b: yes",
    ]
    decode = BaseTokeniser(base(base_folder)).decode
    choice = examples[1].choices[0]
    asked = decode(examples[1].token_ids[: choice.position + 1])
    assert asked.startswith("Text: x\nIs it about b?")
    assert choice.branch.alternatives[choice.chosen].labels == (1,), "the second answer is no"


def test_an_over_long_line_is_refused_by_default(settings: Settings) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^lines\.jsonl: line 2: 66 tokens .* 1 of 2 lines .* data\.max_tokens 64; ",
    ):
        encode(settings(LONG, data={"max_tokens": 64}))


def test_over_long_lines_may_be_dropped_and_are_counted(settings: Settings) -> None:
    examples, fitted = encoded(settings(LONG, data={"max_tokens": 64, "over_long": "drop"}))
    assert (len(examples), fitted.dropped, fitted.truncated) == (1, 1, 0)


def test_over_long_lines_may_be_cut_and_are_counted(settings: Settings, base_folder: Path) -> None:
    examples, fitted = encoded(settings(LONG, data={"max_tokens": 64, "over_long": "truncate"}))
    assert (len(examples), fitted.dropped, fitted.truncated) == (2, 0, 1)
    cut = examples[1]
    assert 60 <= len(cut.token_ids) <= 64
    text = BaseTokeniser(base(base_folder)).decode(cut.token_ids)
    assert text.startswith("Review: bad bad")
    assert text.endswith("\nSentiment:")


def test_a_limit_below_the_prompt_is_refused(settings: Settings) -> None:
    template = {"template": "Review of a film seen yesterday: {input}\nSentiment:"}
    wanted = settings(LONG, prompt=template, data={"max_tokens": 8, "over_long": "truncate"})
    with pytest.raises(ConfigurationError, match=r"data\.max_tokens: 8 leaves no room"):
        encode(wanted)


def test_an_answer_is_learnt_with_its_end(settings: Settings, base_folder: Path) -> None:
    lines = [
        {"messages": [{"role": "user", "content": "hi"}], "completion": "yes"},
        {"prompt": "Say:", "completion": " no"},
    ]
    chat, plain = encode(settings(lines, task="generation", prompt=None, split={"calibration": 0}))
    tokeniser = BaseTokeniser(base(base_folder))
    assert tokeniser.decode(chat.token_ids) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>"
    )
    assert tokeniser.decode(chat.token_ids[chat.answer_at :]) == "yes<|im_end|>"
    assert tokeniser.decode(plain.token_ids[plain.answer_at :]) == " no<|im_end|>"


def test_a_chat_is_learnt_with_the_templates_variables_of_serving(
    base_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base_folder, folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if not think %}<no think>{% endif %}")
    conversation = [Message("user", "hi")]
    for variables, end in (({}, "<no think>"), ({"think": True}, "assistant\n")):
        tokeniser = BaseTokeniser(base(folder, **variables))
        assert tokeniser.decode(tokeniser.encode_chat(conversation)).endswith(end)


def test_a_long_text_is_trained_on_in_pieces(settings: Settings, base_folder: Path) -> None:
    text = "the film was good, a very good film. " * 10
    wanted = settings(
        [{"text": text}], task="pretraining", prompt=None, split={"calibration": 0},
        data={"max_tokens": 32},
    )  # fmt: skip
    examples = encode(wanted)
    tokeniser = BaseTokeniser(base(base_folder))
    pieces = [tokeniser.decode(each.token_ids[each.answer_at :]) for each in examples]
    assert "".join(pieces) == text + "<|im_end|>"
    assert len(pieces) > 2


def test_balanced_examples_weigh_the_same_per_label(settings: Settings) -> None:
    lines = [{"text": f"{n}", "label": "a" if n else "b"} for n in range(10)]
    examples = balance(encode(settings(lines)))
    assert sum(e.weight for e in examples if e.label == "a") == pytest.approx(5)
    assert sum(e.weight for e in examples if e.label == "b") == pytest.approx(5)

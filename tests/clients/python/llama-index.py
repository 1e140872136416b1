"""LlamaIndex: a chat, a stream, a typed answer, an agent with a tool, an index that is asked."""

import asyncio

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field
from tried import ENCODER, JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

texts = ["The cat sits outside.", "Quarterly revenue rose to 12 million.", "A plane takes off."]
service = {"api_base": f"{URL}/v1", "api_key": "none"}
asked = [ChatMessage(role="user", content=JAPAN)]


class Place(BaseModel):
    """A city and its country"""

    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


def model(name):
    return OpenAILike(
        model=name,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        context_window=2048,
        temperature=0,
        **service,
    )


async def get_weather(city: str) -> str:
    """Weather in a city"""
    return "12 degrees, light rain"


@tried("chat")
def chat():
    expect(model(MODEL).chat(asked).message.content, "Tokyo")


@tried("stream")
def stream():
    expect("".join(part.delta for part in model(MODEL).stream_chat(asked)), "Tokyo")


@tried("structured output")
def structured():
    assert isinstance(model(MODEL).as_structured_llm(Place).chat(asked).raw, Place)


@tried("agent with a tool")
def agent():
    async def run():
        return await FunctionAgent(tools=[get_weather], llm=model(TOOLS)).run(OSLO)

    expect(asyncio.run(run()), "light rain")


@tried("index, and a query of it")
def index():
    embeddings = OpenAILikeEmbedding(model_name=ENCODER, **service)
    index = VectorStoreIndex.from_documents(
        [Document(text=text) for text in texts], embed_model=embeddings
    )
    answer = index.as_query_engine(llm=model(MODEL), similarity_top_k=1).query(
        "What did the company earn?"
    )
    assert answer.source_nodes[0].text == texts[1]
    expect(answer, "12 million")

"""LangChain's embeddings, a vector store that searches with them, and its decisions."""

import warnings

from langchain_core.messages import HumanMessage
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIDecisions, OpenAIEmbeddings
from langchain_openai.decisions import Choice, Predicate, Score
from tried import DECIDE, ENCODER, FILM, SENTIMENT, URL, tried

warnings.simplefilter("ignore")

texts = ["The cat sits outside.", "Quarterly revenue rose.", "A plane takes off."]
# Otherwise it sends the token ids of OpenAI's own tokenizer.
embeddings = OpenAIEmbeddings(
    model=ENCODER, base_url=f"{URL}/v1", api_key="none", check_embedding_ctx_length=False
)


@tried("embeddings")
def embed():
    vectors = embeddings.embed_documents(texts)
    assert [len(vector) for vector in vectors] == [384] * 3
    assert abs(sum(value * value for value in vectors[0]) - 1) < 1e-3


@tried("search")
def search():
    store = InMemoryVectorStore.from_texts(texts, embeddings)
    (found,) = store.similarity_search("What did the company earn?", k=1)
    assert found.page_content == texts[1]


@tried("decisions")
def decisions():
    levels = ["very negative", "negative", "neutral", "positive", "very positive"]
    questions = {
        "praised": Predicate(instructions="The author praises it."),
        "sentiment": Choice(instructions=SENTIMENT, choices={"negative": None, "positive": None}),
        "positive": Score(instructions="How positive is the text?", levels=levels),
    }
    decide = OpenAIDecisions(model=DECIDE, base_url=f"{URL}/v1", api_key="none")
    for asked in (FILM, [HumanMessage(FILM)]):
        answer = decide.invoke({"input": asked, "questions": questions})
        assert answer.predicates["praised"].probability > 0.5, answer
        assert answer.choices["sentiment"].choice == "positive", answer
        assert answer.scores["positive"].score > 2, answer
        assert answer.usage.input_tokens > 0, answer
        assert answer.request_id, answer

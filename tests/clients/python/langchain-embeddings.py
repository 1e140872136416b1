"""LangChain's embeddings, and a vector store that searches with them."""

from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from tried import ENCODER, URL, tried

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

"""Cohere's SDK: reranking, in both versions of its interface."""

import cohere
from tried import ENCODER, URL, tried

asked = {
    "model": ENCODER,
    "query": "What does a cat do?",
    "documents": ["Quarterly revenue rose.", "The cat sits outside.", "A plane takes off."],
    "top_n": 2,
}


@tried("rerank (first version)")
def rerank():
    found = cohere.Client(api_key="none", base_url=URL).rerank(**asked, return_documents=True)
    assert [found.results[0].index, len(found.results)] == [1, 2]
    assert found.results[0].document.text == asked["documents"][1]


@tried("rerank (second version)")
def rerank_v2():
    found = cohere.ClientV2(api_key="none", base_url=URL).rerank(**asked)
    assert [found.results[0].index, len(found.results)] == [1, 2]
    assert found.results[0].relevance_score > found.results[1].relevance_score

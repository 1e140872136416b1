"""instructor at its default, which asks for a named tool."""

import instructor
from openai import OpenAI
from pydantic import BaseModel, Field
from tried import JAPAN, TOOLS, URL, tried

client = instructor.from_openai(OpenAI(base_url=f"{URL}/v1", api_key="none"))


class Place(BaseModel):
    """A city and its country"""

    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


@tried("typed answer")
def typed():
    answer = client.chat.completions.create(
        model=TOOLS,
        response_model=Place,
        messages=[{"role": "user", "content": JAPAN}],
        temperature=0,
    )
    assert isinstance(answer, Place)


@tried("typed answer, streamed in parts")
def partial():
    parts = client.chat.completions.create_partial(
        model=TOOLS,
        response_model=Place,
        messages=[{"role": "user", "content": JAPAN}],
        temperature=0,
    )
    *_, last = parts
    assert isinstance(last.city, str)

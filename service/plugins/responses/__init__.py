"""OpenAI's Responses, as a translator onto chats; nothing of them is kept."""

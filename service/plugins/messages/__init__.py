"""Anthropic's Messages, as a translator onto chats."""

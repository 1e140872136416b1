"""Admission control: bounds the engine requests that run and those that wait."""

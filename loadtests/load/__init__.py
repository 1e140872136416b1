"""Requests and their send times, as a pure function of a scenario and its seed."""

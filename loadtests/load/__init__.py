"""Requests and their instants, as a pure function of a scenario and its seed."""

"""What is sent and when, as a pure function of a scenario and its seed."""

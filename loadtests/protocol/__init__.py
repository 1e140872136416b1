"""The words of each API: what a call looks like on the wire and what an answer means."""

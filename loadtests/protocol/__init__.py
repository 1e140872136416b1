"""The formats of each API: requests on the wire, and the meaning of answers."""

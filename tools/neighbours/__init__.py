"""Requests of every kind, answered alone and then all at once: no neighbour changes an answer.

python -m tools.neighbours --model tiny --requests 2000
"""

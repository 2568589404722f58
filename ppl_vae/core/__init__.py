"""The core: a pair of Pyro programs, its sites and plates, its particles,
and what keeps one run from another.
"""

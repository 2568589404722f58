"""Sampling: draws from the exact posterior of every datum at once, by Hamiltonian Monte Carlo and
annealing.
"""

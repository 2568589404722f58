"""Densities that no library has: factors, improper ones, the sphere, chains, padding, a guide's family around
a datum.
"""

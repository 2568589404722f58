"""Densities that no library has: factors of one, improper ones, the sphere,
a guide's family around a datum.
"""

"""Densities that no library has: factors, improper ones, the sphere, a guide's family around a datum."""

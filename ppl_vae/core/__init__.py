"""The core: a pair of Pyro programs, its sites, plates and particles, and what keeps runs apart."""

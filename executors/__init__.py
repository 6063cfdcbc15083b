"""Executors: what makes commands true."""

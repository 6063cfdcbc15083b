"""Stores: where the ledger is kept."""

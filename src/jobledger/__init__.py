"""jobledger: an embeddable, event-sourced batch core with a ledger that proves what happened."""

__version__ = "0.1.0"

"""What jobledger is tested with, for those who write a store, an executor or a policy of their own.

`jobledger.testing.stores` holds the conformance suite that every store passes.  Needs the extra `jobledger[testing]`.
"""
